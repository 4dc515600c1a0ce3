from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lima_core.errors import ConfigError
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.memory_bank import FrameBank, MemoryBank, SceneWriter
from lima_core.stores.predictions import Predictions
from lima_core.types import Camera, DatasetFacts, Frame
from lima_core.viz import choose

FRAMES = [
    Frame(scene, i, f"{scene}{i}", split, i, "p", "l" if i else None, np.eye(4), ())
    for scene, split in (("a", "train"), ("b", "train"), ("v", "val"))
    for i in range(4)
]


@pytest.fixture
def index(tmp_path: Path) -> FrameIndex:
    return FrameIndex.write(tmp_path, FRAMES, DatasetFacts("tiny", ("car",), (), 1.0), {})


@pytest.fixture
def bank(tmp_path: Path) -> MemoryBank:
    """Scene a teaches nothing, scene b everything."""
    MemoryBank.create(tmp_path, 2, 0.1, ())
    for scene, target in (("a", -1), ("b", 0)):
        writer = SceneWriter(tmp_path / "memory.zarr" / scene)
        rows = 1 + target
        for _ in range(4):
            writer.append(FrameBank(
                np.array([target], np.int32), np.ones(rows, np.uint16), *(np.zeros(rows, np.uint8) for _ in range(2)),
                *(np.zeros(rows, np.uint16) for _ in range(2)), np.ones(rows, np.uint8),
            ))  # fmt: skip
        writer.close({})
    return MemoryBank.open(tmp_path)


def predictions(root: Path, tokens: Sequence[str]) -> Predictions:
    out = Predictions.create(root, "val", ("car",), False)
    for token in tokens:
        out.write(token, np.zeros(3, np.uint8))
    return out


def test_the_middle_frame_of_the_first_scene_that_is_taught(index: FrameIndex, bank: MemoryBank) -> None:
    assert choose.taught_frame(None, index, bank).token == "b2"
    assert choose.taught_frame("a0", index, bank).token == "a0"


def test_frames_that_do_not_exist_or_are_not_in_the_bank(index: FrameIndex, bank: MemoryBank) -> None:
    with pytest.raises(ConfigError, match="no frame with token 'x'; tokens look like 'a0'"):
        choose.taught_frame("x", index, bank)
    with pytest.raises(ConfigError, match="nothing of scene 'v'"):
        choose.taught_frame("v1", index, bank)


def test_the_middle_labelled_frame_that_is_predicted(index: FrameIndex, tmp_path: Path) -> None:
    assert choose.predicted_frame(None, index, predictions(tmp_path / "all", ("v0", "v1", "v2", "v3"))).token == "v2"
    assert choose.predicted_frame(None, index, predictions(tmp_path / "one", ("v0",))).token == "v0"
    assert choose.predicted_frame(None, index, predictions(tmp_path / "none", ())) is None
    with pytest.raises(ConfigError, match="has no prediction"):
        choose.predicted_frame("v3", index, predictions(tmp_path / "two", ("v1",)))


def test_forward_is_where_the_front_camera_looks() -> None:
    looks_along_minus_x = np.array([[0.0, 0, -1, 5], [1, 0, 0, 6], [0, -1, 0, 7], [0, 0, 0, 1]])
    camera = Camera("front", "i", 4, 4, 0, np.eye(3), looks_along_minus_x)
    turned = np.array([[0.0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])
    frame = replace(FRAMES[0], cameras=(None, camera))
    assert choose.forward_of(frame) == pytest.approx((-1, 0))
    assert choose.forward_of(replace(frame, global_from_lidar=turned)) == pytest.approx((0, 1))
    looks_down = replace(camera, global_from_camera=np.diag([1.0, -1, -1, 1]))
    assert choose.forward_of(replace(frame, cameras=(looks_down,))) is None
    assert choose.forward_of(FRAMES[0]) is None
