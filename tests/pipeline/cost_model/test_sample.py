from pathlib import Path

import numpy as np

from lima_core.cost import Sample
from lima_core.stores.frame_index import FrameIndex
from lima_core.types import DatasetFacts, Frame
from pipeline.cost_model.sample import evenly, write_sample


def frame(scene: str, index: int, split: str) -> Frame:
    return Frame(scene, index, f"{scene}-{index}", split, index, "points", None, np.eye(4), ())


def sample_of(tmp_path: Path, frames: list[Frame], sample: Sample) -> FrameIndex:
    FrameIndex.write(tmp_path / "whole", frames, DatasetFacts("toy", (), (), 1.0), {})
    write_sample(tmp_path / "whole", tmp_path / "sample", sample)
    return FrameIndex.open(tmp_path / "sample")


def test_consecutive_frames_from_the_middle_of_spread_scenes(tmp_path: Path) -> None:
    frames = [frame(f"s{k}", i, "val" if k == 9 else "train") for k in range(10) for i in range(10)]
    found = sample_of(tmp_path, frames, Sample(scenes=3, frames=4, steps=1, batch_size=1))
    assert found.scenes() == ("s1", "s4", "s7", "s9")
    assert [each.token for each in found.frames("s4")] == ["s4-3", "s4-4", "s4-5", "s4-6"]
    assert [each.index for each in found.frames("s9")] == [0, 1, 2, 3]


def test_a_scene_that_is_split_in_time_is_two_scenes(tmp_path: Path) -> None:
    frames = [frame("drive", i, "train" if i < 6 else "val") for i in range(8)]
    found = sample_of(tmp_path, frames, Sample(scenes=3, frames=4, steps=1, batch_size=1))
    assert found.counts() == {"drive": {"train": 4}, "drive-val": {"val": 2}}
    assert [each.token for each in found.frames("drive-val")] == ["drive-6", "drive-7"]


def test_few_names_are_all_taken() -> None:
    assert evenly(("a", "b"), 5) == ["a", "b"]
    assert evenly((), 2) == []
