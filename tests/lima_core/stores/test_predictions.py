"""Predictions lie where the nuScenes evaluator looks for them, in its ids."""

import json
from pathlib import Path

import numpy as np
import pytest

from lima_core.errors import StoreError
from lima_core.stores.predictions import Predictions

CLASSES = tuple(f"class{i}" for i in range(16))


def test_layout_and_ids(tmp_path: Path) -> None:
    predictions = Predictions.create(tmp_path, "val", CLASSES, uses_external=True)
    ids = np.array([0, 15, 3, 3], dtype=np.uint8)
    predictions.write("token", ids)
    raw = np.fromfile(tmp_path / "lidarseg" / "val" / "token_lidarseg.bin", dtype=np.uint8)
    assert raw.tolist() == [1, 16, 4, 4]
    meta = json.loads((tmp_path / "val" / "submission.json").read_text())["meta"]
    assert set(meta) == {"use_camera", "use_lidar", "use_radar", "use_map", "use_external"}
    assert {name for name, used in meta.items() if used} == {"use_lidar", "use_external"}
    again = Predictions.open(tmp_path)
    assert again == predictions and "token" in again and "other" not in again
    np.testing.assert_array_equal(again.read("token"), ids)


def test_creating_again_keeps_what_is_there(tmp_path: Path) -> None:
    Predictions.create(tmp_path, "val", CLASSES, False).write("token", np.zeros(3, np.uint8))
    assert "token" in Predictions.create(tmp_path, "val", CLASSES, False)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no predictions; build them with"):
        Predictions.open(tmp_path)
    predictions = Predictions.create(tmp_path, "val", CLASSES, False)
    with pytest.raises(StoreError, match="no prediction for frame token"):
        predictions.read("token")
    predictions.write("token", np.zeros(3, np.uint8))
    predictions.path("token").write_bytes(bytes([0, 1, 17]))
    with pytest.raises(StoreError, match=r"token_lidarseg.bin: ids 0\.\.17, expected 1\.\.16"):
        predictions.read("token")
    for damage in (
        b"\xff\xfe",
        b"{",
        b"[]",
        b'{"schema": 1}',
        b'{"schema": 1, "eval_set": "val", "classes": 3}',
        b"{}",
    ):
        (tmp_path / "predictions.json").write_bytes(damage)
        with pytest.raises(StoreError, match=r"predictions\.json: unreadable metadata \([^\n]+\); build them again"):
            Predictions.open(tmp_path)
    (tmp_path / "predictions.json").write_text(json.dumps({"schema": 0}))
    with pytest.raises(StoreError, match="has schema version 0, this program reads 1"):
        Predictions.open(tmp_path)
