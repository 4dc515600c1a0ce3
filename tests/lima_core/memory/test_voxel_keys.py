"""Keys are one to one with cells, sort with them, and refuse poses they cannot hold."""

import numpy as np
import pytest

from lima_core.errors import DataError
from lima_core.geometry import se3
from lima_core.memory.voxel_keys import voxel_keys
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
    with pytest.raises(DataError, match=r"scene toy frame 0: the pose lies 100\.0 km from .*check global_from_ego"):
        voxel_keys(drive.frames[0], jump @ se3.invert(drive.frames[0].global_from_lidar), drive.points[0], 0.1)
