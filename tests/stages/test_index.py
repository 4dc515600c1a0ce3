import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from lima_core.datasets import FolderConfig, NuScenesConfig, dataset_config, open_dataset
from lima_core.errors import DataError
from lima_core.stores.frame_index import FILE, FrameIndex
from lima_core.types import Frame, Resources
from stages import index
from tests.lima_core.datasets.recordings import recording
from tests.lima_core.datasets.tiny_folder import NUM_FRAMES, edit_json, edit_line, write_tiny_folder
from tests.lima_core.datasets.tiny_nuscenes import write_tiny_nuscenes
from tests.lima_core.poses.small_street import motion, scan, street

FOLDER = index.Config(dataset=FolderConfig())


def run(config: index.Config, raw: Path, out: Path) -> dict:
    out.mkdir(exist_ok=True)
    return index.run(config, index.Inputs(raw=raw), out, Resources())


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    return write_tiny_folder(tmp_path / "raw")


def complaint(raw: Path, config: index.Config = FOLDER) -> str:
    with pytest.raises(DataError) as caught:
        run(config, raw, raw.parent / "out")
    assert not (raw.parent / "out" / FILE).exists()
    return str(caught.value).replace(f"{raw}/", "")


def test_index_of_a_folder(raw: Path, tmp_path: Path) -> None:
    assert run(FOLDER, raw, tmp_path / "out") == {
        "dataset": "tiny",
        "scenes": 2,
        "frames": {"train": 12},
        "labelled_frames": 12,
        "cameras": ["front", "side"],
        "missing_cameras": {"side": 2},
        "classes": ["Road", "Car", "Truck"],
        "synthetic": False,
        "poses": "recorded",
        "pose_residual_cm": None,  # points of this data set are strewn at random: there are no surfaces
        "pose_residual_p90_cm": None,
        "pose_residual_pairs": 0,
    }
    opened = FrameIndex.open(tmp_path / "out")
    assert opened.scenes() == ("a", "b") and len(opened.frames("a")) == 6
    assert dataset_config(opened.dataset) == FOLDER.dataset


def test_index_of_nuscenes(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    raw = write_tiny_nuscenes(tmp_path / "raw")
    config = index.Config(dataset=NuScenesConfig(version="v1.0-mini"))
    summary = run(config, raw, tmp_path / "out")
    assert summary["frames"] == {"train": 2} and summary["missing_cameras"] == {"CAM_BACK": 1}
    assert len(summary["classes"]) == 16 and summary["synthetic"] is False
    frame = FrameIndex.open(tmp_path / "out").frames("scene-0061")[0]
    assert open_dataset(config.dataset, raw).load_points(frame).shape == (500, 4)


def test_a_second_run_writes_the_same_bytes(raw: Path, tmp_path: Path) -> None:
    run(FOLDER, raw, tmp_path / "one")
    run(FOLDER, raw, tmp_path / "two")
    assert (tmp_path / "one" / FILE).read_bytes() == (tmp_path / "two" / FILE).read_bytes()


def test_config_is_picked_by_name() -> None:
    config = index.Config.model_validate({"dataset": {"name": "nuscenes", "version": "v1.0-mini"}})
    assert config.dataset == NuScenesConfig(version="v1.0-mini")
    with pytest.raises(ValidationError, match="semantic_kitti"):
        index.Config.model_validate({"dataset": {"name": "kitti"}})


def test_missing_images_are_counted_and_the_first_is_named(raw: Path) -> None:
    for number in (2, 4):
        (raw / f"sequences/b/cameras/front/{number:06d}.jpg").unlink()
    assert complaint(raw) == (
        "scene b: 2 files of this scene cannot be used, the first: sequences/b/cameras/front/000002.jpg "
        "cannot be read: No such file or directory (frame b_000002); complete the data set"
    )


def test_missing_images_can_be_left_out(raw: Path, tmp_path: Path) -> None:
    (raw / "sequences/b/cameras/front/000002.jpg").unlink()
    config = index.Config(dataset=FolderConfig(), missing_images="leave_out")
    assert run(config, raw, tmp_path / "out")["missing_cameras"] == {"front": 1, "side": 2}
    front, side = FrameIndex.open(tmp_path / "out").frames("b")[2].cameras
    assert front is None and side is not None


def test_a_missing_scan_is_refused_even_so(raw: Path) -> None:
    (raw / "sequences/a/lidar/000001.bin").unlink()
    config = index.Config(dataset=FolderConfig(), missing_images="leave_out")
    assert complaint(raw, config).startswith(
        "scene a: 1 files of this scene cannot be used, the first: sequences/a/lidar"
    )


def test_truncated_and_empty_files(raw: Path) -> None:
    scan = raw / "sequences/a/lidar/000005.bin"
    scan.write_bytes(scan.read_bytes()[:-1])
    assert "lidar/000005.bin is truncated: 3999 bytes, 19 more than whole rows of 20" in complaint(raw)
    (raw / "sequences/a/labels/000000.bin").write_bytes(b"")
    assert "2 files of this scene cannot be used, the first: sequences/a/labels/000000.bin is empty" in complaint(raw)


@pytest.mark.parametrize("name", ["", "a/b", ".a", "a.writing", "a.writing-3", "zarr.json", "a*", "a?", "a[1]"])
def test_a_scene_that_no_folder_can_be_named_after(name: str) -> None:
    index.check_names("tiny", ["a", "2011_09_26.drive-1 (x)", "b.zarr.json"])
    with pytest.raises(DataError) as caught:
        index.check_names("tiny", ["a", name])
    assert str(caught.value).startswith(
        f"data set tiny: 1 scenes have a name that no folder of a store can have, the first is {name!r}; rename them: "
    )
    assert "\n" not in str(caught.value)


def test_such_a_sequence_is_told_before_a_file_is_read(raw: Path) -> None:
    (raw / "sequences/b").rename(raw / "sequences/b[1]")
    assert "1 scenes have a name that no folder of a store can have, the first is 'b[1]'" in complaint(raw)


def test_pose_missing(raw: Path) -> None:
    edit_line(raw / "sequences/b/frames.jsonl", 5, lambda line: line.pop("global_from_ego"))
    assert complaint(raw) == (
        "sequences/b/frames.jsonl:5: pose missing; add global_from_ego, or set index.dataset.poses to estimated"
    )


def test_pose_that_is_no_rigid_motion(raw: Path) -> None:
    def stretch(line: dict) -> None:
        line["global_from_ego"][0][0] *= 1.1

    edit_line(raw / "sequences/a/frames.jsonl", 3, stretch)
    assert complaint(raw) == (
        "scene a, frame a_000002: global_from_lidar is no rigid motion (rotation not orthonormal, or not finite)"
    )


def test_camera_pose_and_focal_length(raw: Path) -> None:
    def mirror(line: dict) -> None:
        line["cameras"]["front"]["global_from_camera"][2][2] = -1

    edit_line(raw / "sequences/a/frames.jsonl", 1, mirror)
    assert "frame a_000000: global_from_camera of front is no rigid motion" in complaint(raw)
    edit_line(raw / "sequences/a/frames.jsonl", 1, lambda line: line["cameras"].pop("front"))
    path = raw / "sequences/a/calibration.json"
    edit_json(path, lambda value: value["cameras"]["side"].update(intrinsics=[0, 28, 20, 15]))
    assert complaint(raw) == "scene a, frame a_000000: intrinsics of side have no positive focal length"


TRUTH = [motion(1.0 * number) for number in range(NUM_FRAMES)]


def stand_still(line: dict) -> None:
    del line["labels"]
    line["global_from_ego"] = np.eye(4).tolist()


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """One sequence along the street, with calibrated cameras and poses that stand still."""
    (tmp_path / "raw").mkdir()
    raw = write_tiny_folder(tmp_path / "raw", sequences=("a",))
    surface = street()
    for number, pose in enumerate(TRUTH):
        xyz = scan(surface, pose, number)
        np.pad(xyz, ((0, 0), (1, 1))).astype(np.float32).tofile(raw / f"sequences/a/lidar/{number:06d}.bin")
        (raw / f"sequences/a/labels/{number:06d}.bin").unlink()
        edit_line(raw / "sequences/a/frames.jsonl", number + 1, stand_still)
    calibration = raw / "sequences/a/calibration.json"
    edit_json(calibration, lambda value: value["cameras"]["front"].update(ego_from_camera=motion(1.0).tolist()))
    edit_json(calibration, lambda value: value.update(ego_from_lidar=motion(0.5).tolist()))
    return raw


def test_poses_are_estimated_from_all_scans(drive: Path, tmp_path: Path) -> None:
    config = index.Config(dataset=FolderConfig(poses="estimated", keyframe_stride=2))
    summary = run(config, drive, tmp_path / "out")
    assert summary["poses"] == "estimated" and summary["pose_residual_pairs"] == 2
    opened = FrameIndex.open(tmp_path / "out")
    frames = opened.frames("a")
    assert opened.facts.poses == "estimated" and opened.facts.pose_residual_cm == summary["pose_residual_cm"] < 10
    for frame, truth in zip(frames, TRUTH[::2], strict=True):
        assert np.linalg.norm(frame.global_from_lidar[:3, 3] - truth[:3, 3]) < 0.05
    lidar_from_front = frames[2].global_from_lidar @ motion(0.5)  # ego_from_lidar 0.5 m, ego_from_camera 1 m ahead
    apart = np.linalg.inv(lidar_from_front) @ frames[2].cameras[0].global_from_camera
    assert apart[0, 3] == pytest.approx(-0.2, abs=0.02)  # its image is 20 ms older, at 10 m/s


def test_estimated_poses_are_the_same_bytes_twice_and_in_workers(drive: Path, tmp_path: Path) -> None:
    shutil.copytree(drive / "sequences/a", drive / "sequences/b")
    config = index.Config(dataset=FolderConfig(poses="estimated"))
    for name, workers in (("one", 0), ("two", 2)):
        (tmp_path / name).mkdir()
        index.run(config, index.Inputs(raw=drive), tmp_path / name, Resources(workers=workers))
    assert (tmp_path / "one" / FILE).read_bytes() == (tmp_path / "two" / FILE).read_bytes()


def test_poses_that_do_not_fit_are_told(drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    summary = run(FOLDER, drive, tmp_path / "out")
    assert summary["pose_residual_cm"] > 80  # they stand still, the drive goes a metre a frame
    assert summary["pose_residual_by_scene_cm"] == {"a": summary["pose_residual_cm"]}
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(told) == 1 and told[0].startswith("warning: poses fit to ") and "(median of 5 pairs" in told[0]


def toy(index_: int, timestamp_us: int) -> Frame:
    return Frame("s", index_, f"f{index_}", "train", timestamp_us, "a.bin", None, np.eye(4), ())


def test_times_must_rise() -> None:
    frames = [toy(0, 10), toy(1, 20), toy(2, 20)]
    with pytest.raises(DataError) as caught:
        index.check_times(frames)
    assert str(caught.value) == "scene s: frame f2 is at 20 us, not later than 20 us before it"
    index.check_times(frames[:2])


def test_a_pose_that_is_not_finite() -> None:
    with pytest.raises(DataError, match="scene s, frame f0: global_from_lidar is no rigid motion"):
        index.check_poses(replace(toy(0, 1), global_from_lidar=np.full((4, 4), np.nan)))


@pytest.mark.real
@pytest.mark.parametrize(
    ("config", "folder", "num_frames"),
    [(FolderConfig(), "pandaset", 30), (NuScenesConfig(version="v1.0-mini"), "nuscenes", 1)],
)
def test_real_recordings(real_data: Path, tmp_path: Path, config: object, folder: str, num_frames: int) -> None:
    summary = run(index.Config(dataset=config), recording(real_data, folder), tmp_path / "out")
    assert summary["frames"] == {"train": num_frames} and summary["missing_cameras"] == {}
    assert summary["synthetic"] is False
