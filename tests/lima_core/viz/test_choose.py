from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lima_core.errors import ConfigError
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.memory_bank import FrameBank, MemoryBank, create_bank, write_scene
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
    create_bank(tmp_path, 2, 0.1, (), ("a", "b"))
    for scene, target in (("a", -1), ("b", 0)):
        rows = 1 + target
        with write_scene(tmp_path, scene) as writer:
            for _ in range(4):
                writer.append(FrameBank(
                    np.array([target], np.int32), np.ones(rows, np.uint16),
                    *(np.zeros(rows, np.uint8) for _ in range(2)), *(np.zeros(rows, np.uint16) for _ in range(2)),
                ))  # fmt: skip
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


def test_a_scene_can_be_named(index: FrameIndex, bank: MemoryBank) -> None:
    assert choose.taught_frame(None, index, bank, "b").token == "b2"
    assert choose.taught_frame(None, index, bank, "a") is None
    with pytest.raises(ConfigError, match="nothing of scene 'v'; it holds a, b"):
        choose.taught_frame(None, index, bank, "v")


def tokens(index: FrameIndex, given: Predictions, scene: str | None = None, count: int = 3) -> list[str]:
    return [frame.token for frame in choose.predicted_frames(None, scene, index, given, count)]


def test_labelled_frames_that_are_predicted_spread_over_their_scene(index: FrameIndex, tmp_path: Path) -> None:
    every = predictions(tmp_path / "all", ("v0", "v1", "v2", "v3"))
    assert tokens(index, every) == tokens(index, every, "v") == ["v1", "v2", "v3"]
    assert tokens(index, every, count=1) == ["v2"]
    assert tokens(index, predictions(tmp_path / "one", ("v0",))) == ["v0"]
    assert tokens(index, predictions(tmp_path / "none", ())) == []


def test_each_of_several_scenes_gives_its_middle_frame(tmp_path: Path) -> None:
    frames = [replace(frame, split="val") for frame in FRAMES]
    index = FrameIndex.write(tmp_path, frames, DatasetFacts("tiny", ("car",), (), 1.0), {})
    every = predictions(tmp_path / "all", [frame.token for frame in frames])
    assert tokens(index, every) == ["a2", "b2", "v2"]
    assert tokens(index, every, count=2) == ["a2", "b2"]


def test_frames_and_scenes_without_a_prediction(index: FrameIndex, tmp_path: Path) -> None:
    given = predictions(tmp_path / "two", ("v1",))
    assert [frame.token for frame in choose.predicted_frames("v1", None, index, given, 3)] == ["v1"]
    with pytest.raises(ConfigError, match="frame 'v3' has no prediction"):
        choose.predicted_frames("v3", None, index, given, 3)
    with pytest.raises(ConfigError, match="no frame with token 'x'"):
        choose.predicted_frames("x", None, index, given, 3)
    with pytest.raises(ConfigError, match="scene 'a' has no prediction; name a scene of the validation split: v"):
        choose.predicted_frames(None, "a", index, given, 3)


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
