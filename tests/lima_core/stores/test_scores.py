"""Scores: round trip, undefined numbers, and files that cannot be read."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lima_core.errors import StoreError
from lima_core.stores.scores import Score, concat_scores, read_scores, write_scores

SCORE = Score(
    "nuscenes", "seg", "linear_probe", "random", "none", 0.01, "every_nth_scene", "0f", 7, 280, 0, "lima", "miou",
    "", 0.25,
)  # fmt: skip


def test_round_trip_and_equal_bytes(tmp_path: Path) -> None:
    scores = [SCORE, replace(SCORE, metric="iou", class_name="car", value=None)]
    for name in "ab":
        write_scores(tmp_path / name, scores)
    assert read_scores(tmp_path / "a") == scores
    assert (tmp_path / "a" / "scores.parquet").read_bytes() == (tmp_path / "b" / "scores.parquet").read_bytes()
    assert concat_scores([tmp_path / "a", tmp_path / "b"]) == scores * 2


def test_columns_are_those_of_the_contract(tmp_path: Path) -> None:
    write_scores(tmp_path, [SCORE])
    assert pq.read_table(tmp_path / "scores.parquet").column_names == [
        "dataset", "task", "protocol", "init", "method", "ratio", "subset_rule", "subset_hash", "num_scenes",
        "num_frames", "seed", "evaluator", "metric", "class_name", "value", "selection", "heldout_hash",
    ]  # fmt: skip


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no scores; build it with: lima stage evaluate"):
        read_scores(tmp_path)
    file = tmp_path / "scores.parquet"
    pq.write_table(pa.table({"value": [1.0]}), file)
    with pytest.raises(StoreError, match="schema version"):
        read_scores(tmp_path)
    file.write_bytes(b"short")
    with pytest.raises(StoreError, match="no readable scores"):
        read_scores(tmp_path)
