"""What every member of the data set family keeps; a new member joins by one line in MEMBERS."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import pytest

from lima_core.datasets import (
    DatasetConfig,
    FolderConfig,
    NuScenesConfig,
    SemanticKittiConfig,
    dataset_config,
    open_dataset,
)
from lima_core.datasets.adapter import Dataset
from lima_core.errors import DataError
from lima_core.geometry import se3
from lima_core.types import IGNORE
from tests.lima_core.datasets.tiny_folder import write_tiny_folder
from tests.lima_core.datasets.tiny_nuscenes import write_tiny_nuscenes
from tests.lima_core.datasets.tiny_semantic_kitti import write_tiny_semantic_kitti


class Member(NamedTuple):
    config: DatasetConfig
    write: Callable[[Path], Path]
    point_bytes: int


MEMBERS = {
    "nuscenes": Member(NuScenesConfig(version="v1.0-mini"), write_tiny_nuscenes, 20),
    "folder": Member(FolderConfig(), write_tiny_folder, 20),
    "semantic_kitti": Member(SemanticKittiConfig(), write_tiny_semantic_kitti, 16),
}


@pytest.fixture(scope="module", params=sorted(MEMBERS))
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Member, Path]:
    member = MEMBERS[request.param]
    root = member.write(tmp_path_factory.mktemp(request.param))
    return open_dataset(member.config, root), member, root


def test_every_member_of_the_union_is_tested_here() -> None:
    union = get_args(get_args(DatasetConfig)[0])
    assert {type(member.config) for member in MEMBERS.values()} == set(union)


def test_frames_are_numbered_and_in_time_order(opened: tuple) -> None:
    dataset, _, _ = opened
    frames = [frame for scene in dataset.scenes() for frame in dataset.frames(scene)]
    assert len({frame.token for frame in frames}) == len(frames) >= 2
    for scene in dataset.scenes():
        frames = dataset.frames(scene)
        assert [frame.index for frame in frames] == list(range(len(frames)))
        assert np.all(np.diff([frame.timestamp_us for frame in frames]) > 0)
        assert {frame.scene for frame in frames} == {scene}
        assert {frame.split for frame in frames} <= {"train", "val", "none"}


def test_geometry_is_float64_and_rigid(opened: tuple) -> None:
    dataset, _, _ = opened
    for frame in dataset.frames(dataset.scenes()[0]):
        assert frame.global_from_lidar.dtype == np.float64
        assert se3.is_rigid(frame.global_from_lidar, tolerance=1e-12)
        for camera in filter(None, frame.cameras):
            assert camera.global_from_camera.dtype == camera.intrinsics.dtype == np.float64
            assert se3.is_rigid(camera.global_from_camera, tolerance=1e-12)


def test_cameras_keep_their_place_and_a_missing_one_is_none(opened: tuple) -> None:
    dataset, _, _ = opened
    rigs = [frame.cameras for frame in dataset.frames(dataset.scenes()[0])]
    assert sum(camera is None for rig in rigs for camera in rig) == 1
    for rig in rigs:
        assert len(rig) == len(dataset.facts.cameras)
        assert all(
            camera is None or camera.name == name for camera, name in zip(rig, dataset.facts.cameras, strict=True)
        )


def test_points_labels_and_images_have_their_types(opened: tuple) -> None:
    dataset, _, _ = opened
    frame = dataset.frames(dataset.scenes()[0])[0]
    points, labels = dataset.load_points(frame), dataset.load_labels(frame)
    assert points.dtype == np.float32 and points.shape == (len(labels), 4)
    assert 0 < points[:, 3].max() <= dataset.facts.intensity_max
    assert labels.dtype == np.uint8
    assert np.all((labels < len(dataset.facts.classes)) | (labels == IGNORE))
    for camera in filter(None, frame.cameras):
        image = dataset.load_image(camera)
        assert image.dtype == np.uint8 and image.shape == (camera.height_px, camera.width_px, 3)
        truth = dataset.load_pixel_classes(camera)
        assert truth is None or (truth.dtype == np.uint8 and truth.shape == image.shape[:2])
    moving = dataset.load_moving(frame)
    assert moving is None or (moving.dtype == bool and moving.shape == labels.shape)


def test_arrays_belong_to_the_caller(opened: tuple) -> None:
    dataset, _, _ = opened
    frame = dataset.frames(dataset.scenes()[0])[0]
    for array in (dataset.load_points(frame), dataset.load_labels(frame), dataset.load_image(frame.cameras[0])):
        assert array.flags.writeable


def test_files_of_a_sound_frame_raise_no_complaint(opened: tuple) -> None:
    dataset, _, _ = opened
    assert [line for frame in dataset.frames(dataset.scenes()[0]) for line in dataset.check_files(frame)] == []


def test_truncated_scan_and_missing_image_are_found_without_opening_them(opened: tuple, tmp_path: Path) -> None:
    _, member, _ = opened
    dataset = open_dataset(member.config, member.write(tmp_path))
    frame = dataset.frames(dataset.scenes()[0])[0]
    scan = tmp_path / frame.points
    scan.write_bytes(scan.read_bytes()[:-3])
    (tmp_path / frame.cameras[0].image).unlink()
    size, row = scan.stat().st_size, member.point_bytes
    assert dataset.check_files(frame) == [
        f"{frame.points} is truncated: {size} bytes, {row - 3} more than whole rows of {row}",
        f"{frame.cameras[0].image} cannot be read: No such file or directory",
    ]


def test_digest_follows_content_and_not_place(opened: tuple, tmp_path: Path) -> None:
    dataset, member, root = opened
    copy = tmp_path / "elsewhere"
    shutil.copytree(root, copy, copy_function=shutil.copyfile)  # other times, same bytes
    before = dataset.digest()
    assert open_dataset(member.config, copy).digest() == before
    frame = dataset.frames(dataset.scenes()[0])[0]
    with (copy / frame.points).open("ab") as scan:
        scan.write(bytes(20))
    assert open_dataset(member.config, copy).digest() != before
    (copy / frame.points).write_bytes((root / frame.points).read_bytes())
    assert open_dataset(member.config, copy).digest() == before
    (copy / frame.points).rename(copy / f"{frame.points}.old")
    assert open_dataset(member.config, copy).digest() != before


def test_unknown_scene_names_the_nearest(opened: tuple) -> None:
    dataset, _, _ = opened
    name = dataset.scenes()[0]
    with pytest.raises(DataError, match=f"no s.* '{name}x'.*did you mean '{name}'"):
        dataset.frames(name + "x")


def test_config_survives_the_index(opened: tuple) -> None:
    _, member, _ = opened
    assert dataset_config(member.config.model_dump(mode="json")) == member.config


def test_missing_root_is_told_in_one_line(opened: tuple, tmp_path: Path) -> None:
    _, member, _ = opened
    with pytest.raises(DataError, match="nowhere: no such folder; set the data root to where the data set lies"):
        open_dataset(member.config, tmp_path / "nowhere")
    with pytest.raises(DataError):
        open_dataset(member.config, tmp_path)
