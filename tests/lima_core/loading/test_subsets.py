"""Subsets against the loops of the papers' code, written down again here."""

import hashlib

import numpy as np
import pytest

from lima_core.errors import ConfigError, DataError
from lima_core.loading.subsets import SubsetConfig, nth_scenes, take_subset
from lima_core.types import Frame


def frame(scene: str, index: int, labels: str | None = "labels") -> Frame:
    return Frame(scene, index, f"{scene}/{index}", "train", index, "points", labels, np.eye(4), ())


def drive(num_scenes: int, num_frames: int = 3) -> list[Frame]:
    return [frame(f"scene-{s:04d}", i) for s in range(num_scenes) for i in range(num_frames)]


def slidr(scenes: list[str], skip: int) -> list[str]:
    """SLidR: downstream/dataloader_nuscenes.py."""
    kept, count = [], 0
    for scene in scenes:
        count += 1  # noqa: SIM113 (as it is written there)
        if count % skip == 0:
            kept.append(scene)
    return kept


@pytest.mark.parametrize(
    ("ratio", "skip", "num"), [(0.01, 100, 7), (0.05, 20, 35), (0.1, 10, 70), (0.25, 4, 175), (1.0, 1, 700)]
)
def test_scenes_are_those_of_slidr(ratio: float, skip: int, num: int) -> None:
    scenes = [f"scene-{s:04d}" for s in range(700)]
    assert nth_scenes(scenes, ratio) == slidr(scenes, skip)
    subset = take_subset(drive(700), SubsetConfig(ratio=ratio))
    assert subset.num_scenes == num and len(subset.frames) == 3 * num
    assert list(dict.fromkeys(f.scene for f in subset.frames)) == slidr(scenes, skip)


def test_never_fewer_than_one_scene() -> None:
    assert nth_scenes(["a", "b", "c"], 0.01) == ["c"]
    assert take_subset(drive(5), SubsetConfig(ratio=0.01)).num_scenes == 1


def test_every_nth_frame_is_that_of_semantickitti() -> None:
    frames = drive(1, 19130)
    subset = take_subset(frames, SubsetConfig(rule="every_nth_frame", ratio=0.01))
    assert len(subset.frames) == 192 and list(subset.frames) == frames[::100]


def test_listed_scenes_and_frames_come_in_file_order() -> None:
    config = SubsetConfig(rule="listed", listed=("scene-0002", "scene-0000/1"))
    assert [f.token for f in take_subset(drive(3, 2), config).frames] == [
        "scene-0000/1",
        "scene-0002/0",
        "scene-0002/1",
    ]


def test_unknown_or_empty_lists() -> None:
    with pytest.raises(ConfigError, match=r"'scene-001', which is no labelled.*did you mean 'scene-0001'"):
        take_subset(drive(3), SubsetConfig(rule="listed", listed=("scene-001",)))
    with pytest.raises(ConfigError, match="without a name"):
        take_subset(drive(3), SubsetConfig(rule="listed"))


def test_only_labelled_frames_count() -> None:
    frames = [frame("a", 0, None), frame("b", 0), frame("c", 0, None), frame("c", 1)]
    assert [f.token for f in take_subset(frames, SubsetConfig(ratio=0.5)).frames] == ["c/1"]
    with pytest.raises(DataError, match="no labelled frame"):
        take_subset(frames[:1], SubsetConfig())


def test_hash_is_that_of_the_list() -> None:
    subset = take_subset(drive(2, 1), SubsetConfig())
    assert subset.hash == hashlib.sha256(b"scene-0000/0\nscene-0001/0\n").hexdigest()[:16]
    assert subset.hash != take_subset(drive(2, 1)[::-1], SubsetConfig()).hash
    by_frame = take_subset(drive(2, 1), SubsetConfig(rule="every_nth_frame"))
    assert by_frame.hash == subset.hash  # the same frames, by whatever rule


@pytest.mark.parametrize("ratio", [0.7, 0.4])
def test_a_ratio_that_is_no_nth_is_refused_with_the_nearest(ratio: float) -> None:
    with pytest.raises(ConfigError, match=r"is not one n-th of the scenes; the nearest are 0\.\d+ and "):
        nth_scenes(["a", "b", "c"], ratio)
