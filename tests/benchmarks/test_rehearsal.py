"""The generated data set is what it says, growth is measured, and whoever compares after kills sees what differs."""

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from benchmarks import rehearsal
from benchmarks.kills_run import differences, leftovers
from benchmarks.rehearsal_world import CAMERAS, NUM_POINTS, TRAIN, VAL, Size, scene_lengths, write_world
from lima_core.datasets.folder import FolderConfig, FolderDataset
from lima_core.geometry.camera import project


def test_the_scenes_are_as_many_and_as_long_as_those_of_nuscenes() -> None:
    assert (TRAIN, VAL) == ((700, 28_130), (150, 6_019))
    for split in (TRAIN, VAL):
        lengths = scene_lengths(*split)
        assert (len(lengths), sum(lengths)) == split
        assert set(lengths) == {39, 40, 41}
    assert Size.share(1.0) == Size(700, 150) and Size.share(0.001) == Size(1, 1)


def test_the_data_set_is_read_as_any_other(tmp_path: Path) -> None:
    counts = write_world(tmp_path, Size(2, 1))
    dataset = FolderDataset(FolderConfig(), tmp_path)
    frames = list(chain.from_iterable(dataset.frames(scene) for scene in dataset.scenes()))
    assert counts == {"scenes": 3, "frames": len(frames), "files": 8 * len(frames)}
    assert {frame.scene: frame.split for frame in frames} == {
        "train-0000": "train",
        "train-0001": "train",
        "val-0000": "val",
    }
    assert dataset.facts.cameras == CAMERAS and dataset.check_files(frames[5]) == []
    assert dataset.load_points(frames[5]).shape == (NUM_POINTS, 4) and len(dataset.load_labels(frames[5])) == NUM_POINTS
    moved = np.linalg.inv(frames[0].global_from_lidar) @ frames[4].global_from_lidar
    assert moved[0, 3] == pytest.approx(10.0, abs=0.1), "two seconds at 5 m/s"


def test_every_camera_sees_the_points_that_it_looks_at(tmp_path: Path) -> None:
    write_world(tmp_path, Size(1, 1))
    dataset = FolderDataset(FolderConfig(), tmp_path)
    frame = dataset.frames("train-0000")[0]
    ahead = np.array([[20.0, 0, 0], [-20, 0, 0], [0.1, 8, 0], [0, -8, 0]], np.float32)
    by_camera = [set(np.flatnonzero(visible).tolist()) for visible in project(frame, ahead).visible]
    assert by_camera[0] == {0} and by_camera[3] == {1}
    assert 2 in by_camera[4] | by_camera[5] and 3 in by_camera[1] | by_camera[2]


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_the_exponent_of_growth(power: float) -> None:
    pairs = [(frames, 0.01 * frames**power) for frames in (100, 400, 1600)]
    assert rehearsal.exponent(pairs) == power
    assert rehearsal.exponent(pairs[:1]) is None


def test_growth_is_told_above_what_starting_takes() -> None:
    def size(frames: int) -> dict:
        ran = {"cpu_seconds": 5 + 0.01 * frames, "main_mb": 400 + 0.002 * frames}
        return {"frames": frames, "commands": {"index": ran}}

    grown = rehearsal.growth([size(100), size(1000), size(10000)])["index"]
    assert grown == {"exponent": 1.0, "cpu_ms_per_frame": 10.0, "kb_per_frame": 2.0}


def artifact(work: Path, name: str, data: bytes) -> None:
    (work / name).mkdir(parents=True)
    (work / name / "data").write_bytes(data)
    (work / name / "manifest.json").write_text(json.dumps({"name": name, "created": str(work)}))


def test_what_differs_after_kills_is_seen(tmp_path: Path) -> None:
    for work, data in (("whole", b"same"), ("killed", b"same")):
        artifact(tmp_path / work, "index-1", data)
        artifact(tmp_path / work, "distill-2", data)
    assert differences(tmp_path / "whole", tmp_path / "killed", None) == []
    (tmp_path / "killed" / "distill-2" / "data").write_bytes(b"sane")
    assert differences(tmp_path / "whole", tmp_path / "killed", None) == ["distill-2/data"]
    (tmp_path / "killed" / "index-1" / "data").unlink()
    assert differences(tmp_path / "whole", tmp_path / "killed", None) == ["distill-2/data", "index-1/data"]


def test_what_kills_leave_behind_is_seen(tmp_path: Path) -> None:
    for name in ("index-1/a.writing/x", ".locks/index-1.json", ".locks/index-1.lock", "index-1/frames.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert leftovers(tmp_path) == ["index-1/a.writing", ".locks/index-1.json"]
