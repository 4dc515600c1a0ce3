"""Keys are one to one with cells, sort with them, and refuse poses they cannot hold."""

import numpy as np
import pytest

from lima_core.errors import DataError
from lima_core.geometry import se3
from lima_core.memory.voxel_keys import BITS_XYZ, KEY_BITS, coarser, growth_levels, voxel_keys
from tests.lima_core.memory.toy_drive import toy_drive


def test_keys_are_one_to_one_with_cells_also_far_from_the_start() -> None:
    drive = toy_drive()
    frame, scene_from_global = drive.frames[2], se3.invert(drive.frames[0].global_from_lidar)
    xyz = np.random.default_rng(0).uniform(-9000, 9000, size=(4000, 3))
    near = xyz[:1000] + np.random.default_rng(1).uniform(-0.05, 0.05, size=(1000, 3))
    xyz = np.concatenate([xyz, near])
    cells = np.floor(se3.transform(scene_from_global @ frame.global_from_lidar, xyz) / 0.1).astype(int)
    keys = voxel_keys(frame, scene_from_global, xyz, 0.1)
    assert (keys >= 0).all()
    assert len(np.unique(keys)) == len(np.unique(cells, axis=0)) < 5000
    np.testing.assert_array_equal(np.argsort(keys, kind="stable"), np.lexsort(cells.T[::-1]))


def test_a_pose_beyond_reach_is_an_error_that_names_the_frame() -> None:
    drive = toy_drive()
    jump = se3.from_rotation_translation(np.eye(3), np.array([1e5, 0, 0]))
    with pytest.raises(DataError, match=r"scene toy frame 0: point \d+ lies 100\.0 km .*global_from_ego"):
        voxel_keys(drive.frames[0], jump @ se3.invert(drive.frames[0].global_from_lidar), drive.points[0], 0.1)


def test_a_point_beyond_reach_is_told_from_a_pose() -> None:
    drive = toy_drive()
    xyz = np.concatenate([drive.points[0][:5, :3], [[0, 2e5, 0]]])
    with pytest.raises(DataError, match=r"point 5 lies 200\.0 km from .*, 200\.0 km from its LiDAR"):
        voxel_keys(drive.frames[0], se3.invert(drive.frames[0].global_from_lidar), xyz, 0.1)


def cells_of(keys: np.ndarray) -> np.ndarray:
    """(N, 3) cells behind keys, whose zero is the lowest that fits."""
    _, y, z = BITS_XYZ
    return np.stack([keys >> (y + z), (keys >> z) % (1 << y), keys % (1 << z)], axis=1)


@pytest.mark.parametrize("levels", [0, 1, 2, 3, 5])
def test_coarser_keys_are_those_of_voxels_with_a_longer_edge(levels: int) -> None:
    drive = toy_drive()
    frame, scene_from_global = drive.frames[1], se3.invert(drive.frames[0].global_from_lidar)
    xyz = np.random.default_rng(0).uniform(-300, 300, size=(5000, 3))
    xyz[2500:] = xyz[:2500] + np.random.default_rng(1).uniform(-0.4, 0.4, size=(2500, 3))
    found = coarser(voxel_keys(frame, scene_from_global, xyz, 0.125), levels)
    expected = voxel_keys(frame, scene_from_global, xyz, 0.125 * 2**levels)
    lowest = np.array([1 << (bits - 1) for bits in BITS_XYZ])
    np.testing.assert_array_equal(cells_of(found) - (lowest >> levels), cells_of(expected) - lowest)
    assert (found >= 0).all() and (found < 1 << KEY_BITS).all()
    if levels > 1:
        assert len(np.unique(found)) < len(xyz)


def test_levels_of_levels_add_up() -> None:
    keys = np.random.default_rng(0).integers(0, 1 << KEY_BITS, 2000)
    np.testing.assert_array_equal(coarser(coarser(keys, 0), 3), coarser(keys, 3))
    cells = cells_of(keys)
    np.testing.assert_array_equal(cells_of(coarser(keys, 3)), cells // 8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_voxels_grow_from_the_range_on_and_at_each_doubling(dtype: type) -> None:
    def level(range_m: float) -> int:
        return int(growth_levels(np.array([[0, range_m, 0]], dtype=dtype), 20.0)[0])

    below = {edge: float(np.nextafter(dtype(edge), dtype(0))) for edge in (20.0, 40.0, 80.0)}
    assert [level(range_m) for range_m in (0.0, 0.001, 1.0, 10.0, 15.0)] == [0] * 5
    assert [level(range_m) for range_m in (20.0, 40.0, 80.0, 160.0)] == [1, 2, 3, 4]
    assert [level(range_m) for range_m in below.values()] == [0, 1, 2]
    assert level(39.0) == 1 and level(79.0) == 2


def test_voxels_grow_no_further_than_keys_reach() -> None:
    """Levels stand above the bits of a key when voxels of several edges are told apart."""
    level = int(growth_levels(np.array([[200.0, 0, 0]]), 1e-9)[0])
    assert level + 4 < 1 << (63 - KEY_BITS)
    lowest, highest = coarser(np.array([0, (1 << KEY_BITS) - 1]), level)
    assert lowest == highest == 0


def test_range_counts_all_axes_and_none_keeps_one_size() -> None:
    xyz = np.random.default_rng(0).uniform(-60, 60, size=(500, 3)).astype(np.float32)
    expected = []
    for x, y, z in xyz.astype(float):
        range_m, levels = (x * x + y * y + z * z) ** 0.5, 0
        while range_m >= 15 * 2**levels:
            levels += 1
        expected.append(levels)
    assert growth_levels(xyz, 15.0).tolist() == expected
    assert set(expected) >= {1, 2, 3}
    fixed = growth_levels(xyz, None)
    assert not fixed.any() and fixed.dtype == growth_levels(xyz, 15.0).dtype == np.int64
    assert growth_levels(xyz[:0], 15.0).shape == (0,)
