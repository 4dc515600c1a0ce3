import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lima_core.datasets.folder import FolderConfig, FolderDataset, SplitInTime
from lima_core.errors import ConfigError, DataError, UserError
from lima_core.geometry.camera import project
from lima_core.types import IGNORE
from tests.lima_core.datasets.recordings import recording
from tests.lima_core.datasets.tiny_folder import (
    EGO_FROM_LIDAR,
    EGO_FROM_SIDE,
    NUM_FRAMES,
    edit_json,
    edit_line,
    motion,
    write_tiny_folder,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tiny_folder(tmp_path)


def complaint(root: Path, config: FolderConfig | None = None, error: type[UserError] = DataError) -> str:
    """The one line that opening the data set and reading sequence a ends with, without the root."""
    with pytest.raises(error) as caught:
        FolderDataset(config or FolderConfig(), root).frames("a")
    return str(caught.value).replace(f"{root}/", "").replace("sequences/a/", "")


def test_facts(root: Path) -> None:
    facts = FolderDataset(FolderConfig(), root).facts
    assert (facts.name, facts.classes, facts.cameras) == ("tiny", ("Road", "Car", "Truck"), ("front", "side"))
    assert facts.intensity_max == 100 and facts.poses == "recorded" and not facts.synthetic


def test_frame_says_where_its_files_are(root: Path) -> None:
    frame = FolderDataset(FolderConfig(), root).frames("a")[3]
    assert (frame.token, frame.points, frame.labels) == (
        "a_000003", "sequences/a/lidar/000003.bin", "sequences/a/labels/000003.bin"
    )  # fmt: skip
    assert frame.cameras[1].image == "sequences/a/cameras/side/000003.png"
    assert frame.timestamp_us == 1_300_000 and frame.cameras[0].timestamp_us == 1_280_000


def test_poses(root: Path) -> None:
    frames = FolderDataset(FolderConfig(), root).frames("a")
    global_from_ego = np.array(motion(0.6, 3.0, 0.0, 0.0))
    np.testing.assert_allclose(frames[3].global_from_lidar, global_from_ego @ EGO_FROM_LIDAR, atol=1e-14)
    np.testing.assert_array_equal(frames[3].cameras[0].global_from_camera, motion(0.3, 3, 2.0, 1.0))
    np.testing.assert_allclose(frames[3].cameras[1].global_from_camera, global_from_ego @ EGO_FROM_SIDE, atol=1e-14)
    at_image_time = np.array(motion(0.4, 2.5, 0.5, 0.0))
    np.testing.assert_allclose(frames[2].cameras[1].global_from_camera, at_image_time @ EGO_FROM_SIDE, atol=1e-14)


def test_intrinsics_and_distortion(root: Path) -> None:
    front, side = FolderDataset(FolderConfig(), root).frames("a")[0].cameras
    assert front.intrinsics.tolist() == [[30, 0, 19.5], [0, 31, 14.5], [0, 0, 1]]
    assert front.distortion.tolist() == [0.1, -0.02, 0.001, 0.002, 0.0] and side.distortion is None


def test_camera_without_an_image_in_one_frame(root: Path) -> None:
    frames = FolderDataset(FolderConfig(), root).frames("a")
    assert [frame.index for frame in frames if frame.cameras[1] is None] == [1]


def test_columns_are_picked_by_name(root: Path) -> None:
    dataset = FolderDataset(FolderConfig(), root)
    frame = dataset.frames("a")[0]
    stored = np.fromfile(root / frame.points, np.float32).reshape(-1, 5)
    np.testing.assert_array_equal(dataset.load_points(frame), stored[:, 1:])


def test_raw_ids_become_train_ids(root: Path) -> None:
    dataset = FolderDataset(FolderConfig(), root)
    frame = dataset.frames("a")[0]
    stored = np.fromfile(root / frame.labels, np.uint16)
    expected = [{0: IGNORE, 3: 0, 5: 1, 40: 2}[raw] for raw in stored.tolist()]
    assert dataset.load_labels(frame).tolist() == expected


def test_classes_are_merged_by_the_config(root: Path) -> None:
    dataset = FolderDataset(FolderConfig(class_map={"vehicle": ["Truck", "Car"]}), root)
    frame = dataset.frames("a")[0]
    stored = np.fromfile(root / frame.labels, np.uint16)
    assert dataset.facts.classes == ("vehicle",)
    assert dataset.load_labels(frame).tolist() == [0 if raw in (5, 40) else IGNORE for raw in stored.tolist()]


def test_train_ids_do_not_depend_on_the_order_of_the_class_map(root: Path) -> None:
    """Recipes and the FrameIndex sort a config's keys."""
    class_map = {"other": ["Truck"], "ground": ["Road"], "auto": ["Car"]}
    one = FolderDataset(FolderConfig(class_map=class_map), root)
    other = FolderDataset(FolderConfig(class_map=dict(sorted(class_map.items()))), root)
    frame = one.frames("a")[0]
    assert one.facts.classes == other.facts.classes == ("ground", "auto", "other")
    np.testing.assert_array_equal(one.load_labels(frame), other.load_labels(frame))


def test_an_ignored_class_can_be_named_by_the_config(root: Path) -> None:
    dataset = FolderDataset(FolderConfig(class_map={"rest": ["unlabelled"]}), root)
    frame = dataset.frames("a")[0]
    stored = np.fromfile(root / frame.labels, np.uint16)
    assert np.array_equal(dataset.load_labels(frame) == 0, stored == 0)


def test_unknown_and_doubled_names_in_the_class_map(root: Path) -> None:
    assert complaint(root, FolderConfig(class_map={"vehicle": ["Cars"]}), ConfigError) == (
        "dataset.class_map.vehicle: no class 'Cars'; did you mean 'Car'? known: Car, Road, Truck, unlabelled"
    )
    assert complaint(root, FolderConfig(class_map={"a": ["Car"], "b": ["Car"]}), ConfigError) == (
        "dataset.class_map.b: class 'Car' is already in 'a'"
    )
    assert complaint(root, FolderConfig(class_map={"a": []}), ConfigError) == (
        "dataset.class_map.a: unites no class; list names or remove it"
    )


def test_label_id_that_is_not_listed(root: Path) -> None:
    dataset = FolderDataset(FolderConfig(), root)
    frame = dataset.frames("a")[0]
    stored = np.fromfile(root / frame.labels, np.uint16)
    stored[4] = 77
    stored.tofile(root / frame.labels)
    with pytest.raises(DataError, match=r"\(frame a_000000\): 1 of 200 labels have ids without a class: 77"):
        dataset.load_labels(frame)


def test_every_nth_line_is_a_key_frame(root: Path) -> None:
    frames = FolderDataset(FolderConfig(keyframe_stride=2), root).frames("a")
    assert [(frame.index, frame.token) for frame in frames] == [(0, "a_000000"), (1, "a_000002"), (2, "a_000004")]


def test_one_drive_is_split_in_time(root: Path) -> None:
    config = FolderConfig(split_in_time=SplitInTime(train_first=3, val_last=2))
    splits = [frame.split for frame in FolderDataset(config, root).frames("a")]
    assert splits == ["train", "train", "train", "none", "val", "val"]


def test_split_in_time_never_overlaps(root: Path) -> None:
    config = FolderConfig(split_in_time=SplitInTime(train_first=3, val_last=1), keyframe_stride=2)
    assert complaint(root, config, ConfigError) == (
        "dataset.split_in_time: sequence a has 3 key frames, fewer than train_first + val_last"
    )


ESTIMATED = FolderConfig(poses="estimated", keyframe_stride=2)


def test_without_poses_frames_lie_in_their_own_lidar_frame(root: Path) -> None:
    for number in range(1, NUM_FRAMES + 1):
        edit_line(root / "sequences/a/frames.jsonl", number, lambda line: (line.pop("global_from_ego"),
                                                                           line["cameras"].pop("front")))  # fmt: skip
    dataset = FolderDataset(ESTIMATED, root)
    lidar_from_side = np.linalg.inv(EGO_FROM_LIDAR) @ EGO_FROM_SIDE
    assert dataset.facts.poses == "estimated" and len(dataset.frames("a")) == 3
    for frame in dataset.frames("a"):
        np.testing.assert_allclose(frame.global_from_lidar, np.eye(4), atol=1e-14)
        np.testing.assert_allclose(frame.cameras[1].global_from_camera, lidar_from_side, atol=1e-14)


def test_all_scans_are_listed_for_odometry(root: Path) -> None:
    dataset = FolderDataset(ESTIMATED, root)
    scans = dataset.scans("a")
    assert [scan.token for scan in scans] == [f"a_{number:06d}" for number in range(NUM_FRAMES)]
    assert {scan.cameras for scan in scans} == {()} and dataset.load_points(scans[1]).shape == (200, 4)


def test_estimated_poses_need_the_cameras_calibration(root: Path) -> None:
    assert complaint(root, ESTIMATED) == (
        "frames.jsonl:1: pose missing: camera 'front' has only recorded poses, and poses are to be estimated; "
        "add ego_from_camera to calibration.json"
    )


def test_listed_splits(root: Path) -> None:
    edit_json(root / "dataset.json", lambda header: header.update(splits={"val": ["b"]}))
    dataset = FolderDataset(FolderConfig(), root)
    assert {frame.split for frame in dataset.frames("a")} == {"none"}
    assert {frame.split for frame in dataset.frames("b")} == {"val"}


def test_listed_splits_name_known_sequences_once(root: Path) -> None:
    edit_json(root / "dataset.json", lambda header: header.update(splits={"train": ["aa"]}))
    assert complaint(root).startswith("dataset.json: key 'splits.train': no sequence 'aa'; did you mean 'a'?")
    edit_json(root / "dataset.json", lambda header: header.update(splits={"train": ["a"], "val": ["a"]}))
    assert complaint(root) == "dataset.json: key 'splits': sequence 'a' is listed twice"


def test_a_drive_without_labels_or_cameras(root: Path) -> None:
    edit_json(root / "dataset.json", lambda header: header.update(labels=None))
    for name in ("a", "b"):
        edit_json(root / "sequences" / name / "calibration.json", lambda value: value.update(cameras={}))
    for number in range(1, NUM_FRAMES + 1):
        edit_line(root / "sequences/a/frames.jsonl", number, lambda line: (line.pop("labels"), line.pop("cameras")))
    dataset = FolderDataset(FolderConfig(), root)
    frames = dataset.frames("a")
    assert dataset.facts.classes == () and {(frame.labels, frame.cameras) for frame in frames} == {(None, ())}
    with pytest.raises(DataError, match="frame a_000000 has no labels"):
        dataset.load_labels(frames[0])


HEADER = {
    "no format": (lambda v: v.pop("format"), "key 'format' is missing; see docs/lima-folder.md"),
    "other format": (
        lambda v: v.update(format="lima-folder/2"),
        "key 'format': input should be 'lima-folder/1', got \"lima-folder/2\"",
    ),
    "typing error": (lambda v: v.update(splts={}), "unknown key 'splts'; did you mean 'splits'?"),
    "no intensity": (
        lambda v: v["points"].update(columns=["x", "y", "z"]),
        "key 'points.columns': 'intensity' occurs 0 times; needed once each: x, y, z, intensity",
    ),
    "raw id": (lambda v: v["labels"]["classes"].update(car="Car"), "key 'labels.classes': 'car' is no raw id"),
    "text for number": (
        lambda v: v["points"].update(intensity_max="255"),
        "key 'points.intensity_max': input should be a valid number, got \"255\"",
    ),
}


@pytest.mark.parametrize("case", HEADER)
def test_errors_in_dataset_json(root: Path, case: str) -> None:
    change, expected = HEADER[case]
    edit_json(root / "dataset.json", change)
    assert complaint(root) == f"dataset.json: {expected}"


CALIBRATION = {
    "wrong type": (
        lambda v: v["cameras"]["front"].update(intrinsics=[30.0, "wide", 19.5, 14.5]),
        "key 'cameras.front.intrinsics.1': input should be a valid number, got \"wide\"",
    ),
    "five intrinsics": (
        lambda v: v["cameras"]["front"].update(intrinsics=[30.0, 30.0, 19.5, 14.5, 0.0]),
        "key 'cameras.front.intrinsics': tuple should have at most 4 items after validation, not 5, "
        "got [30.0, 30.0, 19.5, 14.5, 0.0]",
    ),
    "width in halves": (
        lambda v: v["cameras"]["front"].update(width=40.5),
        "key 'cameras.front.width': input should be a valid integer, got 40.5",
    ),
    "three rows": (lambda v: v["ego_from_lidar"].pop(), "key 'ego_from_lidar.3' is missing; see docs/lima-folder.md"),
    "not finite": (
        lambda v: v["ego_from_lidar"][0].__setitem__(3, float("nan")),
        "key 'ego_from_lidar.0.3': input should be a finite number, got NaN",
    ),
    "column-major": (
        lambda v: v.update(ego_from_lidar=np.transpose(v["ego_from_lidar"]).tolist()),
        "key 'ego_from_lidar': the last row must be 0 0 0 1 (row-major: the translation is the last column), "
        "got [[0.9950041652780258, 0.09983341664682815, 0.0, 0.0], [-0...",
    ),
}


@pytest.mark.parametrize("case", CALIBRATION)
def test_errors_in_calibration_json(root: Path, case: str) -> None:
    change, expected = CALIBRATION[case]
    edit_json(root / "sequences/a/calibration.json", change)
    assert complaint(root) == f"calibration.json: {expected}"


LINE_3: dict[str, tuple[Callable[[dict], object], str]] = {
    "pose missing": (
        lambda v: v.pop("global_from_ego"),
        "pose missing; add global_from_ego, or set index.dataset.poses to estimated",
    ),
    "pose of an image missing": (
        lambda v: v["cameras"]["front"].pop("global_from_camera"),
        "pose missing: camera 'front' has no global_from_camera; add it, or ego_from_camera to calibration.json",
    ),
    "two poses of an image": (
        lambda v: v["cameras"]["front"].update(global_from_ego=motion(0, 0, 0, 0)),
        "key 'cameras.front': has both global_from_camera and global_from_ego",
    ),
    "unknown camera": (
        lambda v: v["cameras"].update(fornt=v["cameras"]["front"]),
        "camera 'fornt' is not in calibration.json; did you mean 'front'? known: front, side",
    ),
    "time": (
        lambda v: v.update(timestamp_us=1_100_000),
        "key 'timestamp_us': 1100000 is not later than 1100000 before it",
    ),
    "index": (lambda v: v.update(index=1), "key 'index': 1 follows 1"),
    "path": (
        lambda v: v.update(points="../b/lidar/000002.bin"),
        "path '../b/lidar/000002.bin' leaves its sequence; paths are relative to the sequence",
    ),
    "typing error": (lambda v: v.update(lables="x"), "unknown key 'lables'; did you mean 'labels'?"),
    "wrong type": (
        lambda v: v["cameras"]["front"].update(timestamp_us="now"),
        "key 'cameras.front.timestamp_us': input should be a valid integer, got \"now\"",
    ),
}


@pytest.mark.parametrize("case", LINE_3)
def test_errors_in_frames_jsonl_name_the_line(root: Path, case: str) -> None:
    change, expected = LINE_3[case]
    edit_line(root / "sequences/a/frames.jsonl", 3, change)
    assert complaint(root) == f"frames.jsonl:3: {expected}"


def test_line_that_is_cut_off(root: Path) -> None:
    path = root / "sequences/a/frames.jsonl"
    path.write_text(path.read_text()[:-30])
    assert complaint(root).startswith(f"frames.jsonl:{NUM_FRAMES}: is not JSON: ")


def test_missing_and_empty_files(root: Path) -> None:
    path = root / "sequences/a/frames.jsonl"
    path.write_text("\n")
    assert complaint(root) == "frames.jsonl: holds no frame"
    path.unlink()
    assert complaint(root) == "frames.jsonl: cannot be read: No such file or directory; see docs/lima-folder.md"


def test_labels_that_the_data_set_does_not_have(root: Path) -> None:
    edit_json(root / "dataset.json", lambda header: header.update(labels=None))
    assert complaint(root) == "frames.jsonl:1: key 'labels': dataset.json says this data set has none"


@pytest.mark.real
def test_real_drive_paints_points_with_what_they_are(real_data: Path) -> None:
    """Vegetation points must fall on greener pixels than road points, in every labelled camera of a moving frame."""
    dataset = FolderDataset(FolderConfig(), recording(real_data, "pandaset"))
    frame = dataset.frames("002")[-1]
    points, labels = dataset.load_points(frame), dataset.load_labels(frame)
    assert len(points) > 100_000 and len(dataset.facts.classes) == 42 and len(dataset.frames("002")) == 30
    projection = project(frame, points[:, :3])
    greenness = {name: [] for name in ("Vegetation", "Road")}
    for index, camera in enumerate(frame.cameras):
        image = dataset.load_image(camera).astype(np.float64)
        for name, values in greenness.items():
            seen = projection.visible[index] & (labels == dataset.facts.classes.index(name))
            u, v = np.rint(projection.uv_px[index][seen]).astype(int).T
            values.extend((image[v, u, 1] - image[v, u].mean(axis=1)).tolist())
    assert min(map(len, greenness.values())) > 500
    assert np.mean(greenness["Vegetation"]) > np.mean(greenness["Road"]) + 1


@pytest.mark.real
def test_real_header_is_plain_json(real_data: Path) -> None:
    root = recording(real_data, "pandaset")
    header = json.loads((root / "dataset.json").read_text())
    kept = [name for raw, name in header["labels"]["classes"].items() if int(raw) not in header["labels"]["ignore"]]
    assert list(FolderDataset(FolderConfig(), root).facts.classes) == kept
