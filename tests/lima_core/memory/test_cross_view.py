"""Cross-view aggregation against a loop over points."""

from collections import defaultdict

import numpy as np
import pytest

from lima_core.geometry.camera import project
from lima_core.memory.cross_view import Entries, aggregate
from lima_core.types import IGNORE
from tests.lima_core.memory.toy_drive import HEIGHT_PX, WIDTH_PX, toy_drive


def test_one_reference_per_voxel_and_camera_at_the_mean_position() -> None:
    drive = toy_drive(num_points=2000)
    frame, projection, voxel = drive.frames[0], project(drive.frames[0], drive.points[0]), drive.voxels(0)
    positions = defaultdict(list)
    for camera, point in zip(*np.nonzero(projection.visible), strict=True):
        positions[int(voxel[point]), int(camera)].append(projection.uv_px[camera, point])
    entries = aggregate(frame, projection, voxel)
    keys = list(zip(entries.voxel.tolist(), entries.camera.tolist(), strict=True))
    assert keys == sorted(positions)
    means = np.array([np.mean(positions[key], axis=0) for key in keys])
    stored_px = np.stack([entries.u, entries.v], axis=1) / 65535 * [WIDTH_PX, HEIGHT_PX] - 0.5
    np.testing.assert_allclose(stored_px, means, atol=WIDTH_PX / 65535)
    assert max(map(len, positions.values())) > 1


def test_truth_is_the_majority_of_the_points_and_the_class_of_the_pixel() -> None:
    drive = toy_drive(num_points=2000)
    frame, projection, voxel = drive.frames[0], project(drive.frames[0], drive.points[0]), drive.voxels(0)
    rng = np.random.default_rng(0)
    point_class = rng.choice(np.array([0, 1, 2, IGNORE], dtype=np.uint8), len(voxel))
    halves = np.tile(np.array([[3, 4]], dtype=np.uint8).repeat(WIDTH_PX // 2, axis=1), (HEIGHT_PX, 1))
    entries = aggregate(frame, projection, voxel, "merged", point_class, [halves, None, halves])
    for key, camera, u, points, pixels in zip(
        entries.voxel, entries.camera, entries.u, entries.truth["points"], entries.truth["pixels"], strict=True
    ):
        behind = point_class[(voxel == key) & projection.visible[camera]]
        votes = np.bincount(behind[behind != IGNORE], minlength=3)
        assert votes[points] == votes.max() if votes.any() else points == IGNORE
        assert pixels == (IGNORE if camera == 1 else 3 + (u / 65535 >= 0.5))


def test_a_camera_without_an_image_gives_no_reference() -> None:
    drive = toy_drive()
    frame = drive.frames[0]
    blind = type(frame)(**{**vars(frame), "cameras": (None, *frame.cameras[1:])})
    entries = aggregate(blind, project(blind, drive.points[0]), drive.voxels(0))
    assert set(entries.camera.tolist()) == {1, 2}


def random_entries(num_references: int, num_voxels: int) -> Entries:
    rng = np.random.default_rng(num_references)
    columns = {name: rng.integers(0, 200, num_references).astype(np.uint16) for name in ("u", "v")}
    columns["camera"] = rng.integers(0, 6, num_references).astype(np.uint8)
    truth = {"points": rng.integers(0, 9, num_references).astype(np.uint8)}
    return Entries(voxel=np.sort(rng.integers(0, num_voxels, num_references)), **columns, truth=truth)


@pytest.mark.parametrize("num_references", [0, 1, 60])
@pytest.mark.parametrize("forgotten", [[], [0], [29], [-5, 40], [3, 4, 5, 20, 29], range(30)])
def test_without_keeps_what_isin_does_not_name(num_references: int, forgotten: list[int]) -> None:
    entries, voxels = random_entries(num_references, 30), np.array(list(forgotten), dtype=np.int64)
    left = entries.without(voxels)
    keep = ~np.isin(entries.voxel, voxels)
    for name in ("voxel", "camera", "u", "v"):
        np.testing.assert_array_equal(getattr(left, name), getattr(entries, name)[keep], err_msg=name)
        assert getattr(left, name).dtype == getattr(entries, name).dtype
    np.testing.assert_array_equal(left.truth["points"], entries.truth["points"][keep])
    assert len(entries.voxel) == num_references
