from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lima_core.datasets.semantic_kitti import SemanticKittiConfig, SemanticKittiDataset
from lima_core.errors import ConfigError, DataError, UserError
from lima_core.geometry.camera import project
from lima_core.types import IGNORE
from tests.lima_core.datasets.recordings import recording
from tests.lima_core.datasets.tiny_semantic_kitti import (
    HEIGHT_PX,
    NUM_FRAMES,
    P2,
    TR,
    WIDTH_PX,
    grey_pose,
    write_tiny_semantic_kitti,
)

ESTIMATED = SemanticKittiConfig(poses="estimated")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tiny_semantic_kitti(tmp_path)


def opened(root: Path, config: SemanticKittiConfig | None = None) -> SemanticKittiDataset:
    return SemanticKittiDataset(config or SemanticKittiConfig(), root)


def homogeneous(rows: np.ndarray) -> np.ndarray:
    return np.vstack([rows, [0, 0, 0, 1]])


def test_facts(root: Path) -> None:
    facts = opened(root).facts
    assert (facts.name, facts.cameras, facts.intensity_max, facts.poses) == (
        "semantic_kitti",
        ("image_2",),
        1,
        "recorded",
    )
    assert len(facts.classes) == 19 and facts.classes[0] == "car" and facts.classes[18] == "traffic-sign"
    assert (facts.poses, opened(root, ESTIMATED).facts.poses) == ("recorded", "estimated")


def test_official_splits(root: Path) -> None:
    dataset = opened(root)
    assert [(scene, dataset.frames(scene)[0].split) for scene in dataset.scenes()] == [
        ("00", "train"), ("08", "val"), ("11", "none")
    ]  # fmt: skip


def test_own_splits(root: Path) -> None:
    dataset = opened(root, SemanticKittiConfig(train=["11"]))
    assert [dataset.frames(scene)[0].split for scene in dataset.scenes()] == ["none", "val", "train"]


def test_frame_says_where_its_files_are(root: Path) -> None:
    frame = opened(root).frames("00")[3]
    assert (frame.token, frame.timestamp_us, frame.points, frame.labels) == (
        "00_000003", 300_000, "sequences/00/velodyne/000003.bin", "sequences/00/labels/000003.label"
    )  # fmt: skip
    camera = frame.cameras[0]
    assert (camera.image, camera.width_px, camera.height_px) == ("sequences/00/image_2/000003.png", WIDTH_PX, HEIGHT_PX)
    assert opened(root).frames("11")[0].labels is None and opened(root).frames("00")[1].cameras == (None,)


def test_poses_are_those_of_the_lidar(root: Path) -> None:
    """A point that does not move has the same place in the frame of the first grey camera in every frame."""
    frames = opened(root).frames("00")
    point = np.array([7.0, 3.0, -1.0, 1.0])
    for index, frame in enumerate(frames):
        grey = homogeneous(grey_pose(index)) @ homogeneous(TR) @ point
        np.testing.assert_allclose(homogeneous(TR) @ frame.global_from_lidar @ point, grey, atol=1e-12)


@pytest.mark.parametrize("config", [SemanticKittiConfig(), ESTIMATED])
def test_points_are_projected_by_p2_and_tr(root: Path, config: SemanticKittiConfig) -> None:
    frame = opened(root, config).frames("00")[2]
    xyz = np.random.default_rng(0).uniform([4, -3, -2], [20, 3, 1], (100, 3))
    seen = P2 @ homogeneous(TR) @ np.column_stack([xyz, np.ones(100)]).T
    projection = project(frame, xyz)
    np.testing.assert_allclose(projection.uv_px[0], (seen[:2] / seen[2]).T, atol=1e-9)
    assert projection.visible.sum() > 30


def test_frames_without_poses_lie_in_their_own_lidar_frame(root: Path) -> None:
    (root / "sequences/00/poses.txt").unlink()
    frames = opened(root, ESTIMATED).frames("00")
    assert all(np.array_equal(frame.global_from_lidar, np.eye(4)) for frame in frames)


def test_missing_poses_are_never_made_up(root: Path) -> None:
    (root / "sequences/00/poses.txt").unlink()
    assert complaint(root) == (
        "poses.txt: there are no recorded poses; set index.dataset.poses to estimated, or add the file"
    )


def test_every_nth_scan_is_a_key_frame_and_scans_lists_all(root: Path) -> None:
    dataset = opened(root, SemanticKittiConfig(keyframe_stride=2))
    assert [(f.index, f.token) for f in dataset.frames("00")] == [(0, "00_000000"), (1, "00_000002"), (2, "00_000004")]
    scans = dataset.scans("00")
    assert [scan.timestamp_us for scan in scans] == [100_000 * index for index in range(NUM_FRAMES)]
    assert {scan.cameras for scan in scans} == {()} and dataset.load_points(scans[1]).shape == (200, 4)


def test_a_scans_number_is_its_line(root: Path) -> None:
    for name in ("velodyne/000001.bin", "labels/000001.label"):
        (root / "sequences/00" / name).unlink()
    frame = opened(root).frames("00")[1]
    assert (frame.token, frame.timestamp_us) == ("00_000002", 200_000)
    expected = np.linalg.inv(homogeneous(TR)) @ homogeneous(grey_pose(2)) @ homogeneous(TR)
    np.testing.assert_allclose(frame.global_from_lidar, expected, atol=1e-12)


def test_raw_ids_become_train_ids(root: Path) -> None:
    dataset = opened(root)
    frame = dataset.frames("00")[0]
    raw = np.fromfile(root / frame.labels, np.uint32) % 65536
    expected = [{0: IGNORE, 10: 0, 40: 8, 81: 18, 252: 0, 259: 4}[value] for value in raw.tolist()]
    assert dataset.load_labels(frame).tolist() == expected


def test_labels_say_what_moves(root: Path) -> None:
    dataset = opened(root)
    frame = dataset.frames("00")[0]
    raw = np.fromfile(root / frame.labels, np.uint32) % 65536
    assert dataset.load_moving(frame).tolist() == [value in (252, 259) for value in raw.tolist()]
    assert dataset.load_moving(dataset.frames("11")[0]) is None


def test_label_id_that_does_not_exist(root: Path) -> None:
    np.full(200, 21, np.uint32).tofile(root / "sequences/00/labels/000000.label")
    dataset = opened(root)
    with pytest.raises(DataError, match=r"000000.label \(frame 00_000000\): 200 of 200 labels have ids .*: 21"):
        dataset.load_labels(dataset.frames("00")[0])


def complaint(root: Path, config: SemanticKittiConfig | None = None, error: type[UserError] = DataError) -> str:
    with pytest.raises(error) as caught:
        opened(root, config).frames("00")
    return str(caught.value).replace(f"{root}/sequences/00/", "")


def edit(path: Path, change: Callable[[list[str]], object]) -> None:
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text("\n".join(lines) + "\n")


BAD: dict[str, tuple[str, Callable[[list[str]], object], str]] = {
    "calib key": ("calib.txt", lambda v: v.pop(), "calib.txt: no key 'Tr'; use calib.txt of the odometry benchmark "
                  "(P0 to P3 and Tr)"),
    "calib numbers": ("calib.txt", lambda v: v.__setitem__(1, "P2: 1 2 3"),
                      "calib.txt:2: holds 3 numbers, expected 12"),
    "no focal length": ("calib.txt", lambda v: v.__setitem__(1, "P2:" + 12 * " 0"),
                        "calib.txt: key 'P2': is no projection of a rectified camera"),
    "Tr not rigid": ("calib.txt", lambda v: v.__setitem__(2, "Tr:" + 12 * " 1"),
                     "calib.txt: key 'Tr': is no rigid motion (rotation not orthonormal)"),
    "poses cut": ("poses.txt", lambda v: v.pop(), "poses.txt: has 4 lines, scan 000004 needs line 5; copy the file "
                  "again, or remove the scans beyond it"),
    "NaN pose": ("poses.txt", lambda v: v.__setitem__(2, "nan" + 11 * " 0"), "poses.txt:3: holds a number that is not "
                 "finite"),
    "words": ("poses.txt", lambda v: v.__setitem__(0, "x y"), "poses.txt:1: could not convert string to float: 'x'; "
              "expected 12 numbers"),
    "times cut": ("times.txt", lambda v: v.clear(), "times.txt: has 1 lines, scan 000004 needs line 5; copy the file "
                  "again, or remove the scans beyond it"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_errors_in_text_files(root: Path, case: str) -> None:
    name, change, expected = BAD[case]
    edit(root / "sequences/00" / name, change)
    assert complaint(root) == expected


def test_missing_calibration(root: Path) -> None:
    (root / "sequences/00/calib.txt").unlink()
    assert complaint(root) == "calib.txt: cannot be read: No such file or directory"


def test_an_image_that_is_none(root: Path) -> None:
    (root / "sequences/00/image_2/000000.png").write_bytes(b"")
    assert complaint(root) == "image_2/000000.png: is no image that can be read; copy the file again"


def test_a_scan_without_a_number(root: Path) -> None:
    (root / "sequences/00/velodyne/scan7.bin").touch()
    assert complaint(root) == "velodyne/scan7.bin: is not named by a number of six digits; name scans NNNNNN.bin"


def test_labels_of_another_length_are_found_without_reading_them(root: Path) -> None:
    np.zeros(199, np.uint32).tofile(root / "sequences/00/labels/000002.label")
    dataset = opened(root)
    frames = dataset.frames("00")
    assert dataset.check_files(frames[2]) == [
        "sequences/00/labels/000002.label holds 199 labels, its scan 200 points"
    ] and not dataset.check_files(frames[0])
    with pytest.raises(DataError, match=r"holds 796 bytes, 200 points need 800 \(uint32\)"):
        dataset.load_labels(frames[2])


def test_sequences_that_the_config_names(root: Path) -> None:
    assert complaint(root, SemanticKittiConfig(train=["12"]), ConfigError).startswith(
        "dataset.train: no sequence '12'; did you mean '11'?"
    )
    assert complaint(root, SemanticKittiConfig(train=["08"]), ConfigError) == (
        "dataset.train and dataset.val: sequence '08' is in both"
    )


@pytest.mark.real
def test_real_sequences(real_data: Path) -> None:
    dataset = opened(recording(real_data, "kitti"), SemanticKittiConfig(train=["90"]))
    frames = dataset.frames("90")
    assert len(frames) == 15 and {frame.split for frame in frames} == {"train"}
    assert dataset.frames("00")[0].split == "none" and len(set(dataset.load_labels(dataset.frames("00")[0]))) > 8
    forward = np.linalg.inv(frames[0].global_from_lidar) @ frames[-1].global_from_lidar
    assert forward[0, 3] > 3 and abs(forward[1, 3]) < 0.2  # it drives straight on, and x is forward
    points = dataset.load_points(frames[0])
    visible = project(frames[0], points[:, :3]).visible[0]
    assert 0.1 < visible.mean() < 0.25 and (points[visible, 0] > 0).all()
