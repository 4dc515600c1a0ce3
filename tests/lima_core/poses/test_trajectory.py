from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import expm

from lima_core.errors import DataError
from lima_core.geometry import se3
from lima_core.poses.trajectory import Trajectory, placed
from lima_core.types import Camera, Frame
from tests.lima_core.poses.small_street import motion

TIMES_US = np.array([1_000_000, 1_100_000, 1_200_000])
POSES = np.stack([motion(0.0), motion(1.0, 0.5, 0.1, 30), motion(3.0, 0.5, 0.1, 20)])
TRAJECTORY = Trajectory(TIMES_US, POSES)


def test_poses_of_scans_come_back_bit_for_bit() -> None:
    for time_us, pose in zip(TIMES_US.tolist(), POSES, strict=True):
        np.testing.assert_array_equal(TRAJECTORY.at(time_us), pose)


def test_between_scans_turn_and_shift_are_steady() -> None:
    np.testing.assert_allclose(TRAJECTORY.at(1_050_000), motion(0.5, 0.25, 0.05, 15), atol=1e-12)
    np.testing.assert_allclose(TRAJECTORY.at(1_125_000), motion(1.5, 0.5, 0.1, 27.5), atol=1e-12)


def test_motion_goes_on_just_outside() -> None:
    np.testing.assert_allclose(TRAJECTORY.at(950_000), motion(-0.5, -0.25, -0.05, -15), atol=1e-12)
    np.testing.assert_allclose(TRAJECTORY.at(1_250_000), motion(4.0, 0.5, 0.1, 15), atol=1e-12)


def test_a_turn_about_any_axis_stays_rigid() -> None:
    axis = np.array([[0, -0.3, 0.2], [0.3, 0, -0.5], [-0.2, 0.5, 0]])
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, :3, :3] = expm(axis)
    halfway = Trajectory(TIMES_US[:2], poses).at(1_050_000)
    assert se3.is_rigid(halfway, 1e-12)
    np.testing.assert_allclose(halfway[:3, :3], expm(axis / 2), atol=1e-12)


def test_a_single_scan_stands_still() -> None:
    np.testing.assert_array_equal(Trajectory(TIMES_US[:1], POSES[:1]).at(1_070_000), POSES[0])


LIDAR_FROM_CAMERA = motion(0.3, 0.2, -0.1, -90)
CAMERA = Camera("front", "a.jpg", 40, 30, 1_050_000, np.eye(3), LIDAR_FROM_CAMERA)
FRAME = Frame("s", 1, "s_1", "train", 1_100_000, "a.bin", None, np.eye(4), (None, CAMERA))


def test_every_sensor_is_placed_at_its_own_time() -> None:
    frame = placed(FRAME, TRAJECTORY)
    np.testing.assert_array_equal(frame.global_from_lidar, POSES[1])
    assert frame.cameras[0] is None
    expected = motion(0.5, 0.25, 0.05, 15) @ LIDAR_FROM_CAMERA
    np.testing.assert_allclose(frame.cameras[1].global_from_camera, expected, atol=1e-12)
    np.testing.assert_array_equal(FRAME.cameras[1].global_from_camera, LIDAR_FROM_CAMERA)


@pytest.mark.parametrize("time_us", [799_999, 1_400_001])
def test_an_image_from_another_time_is_refused(time_us: int) -> None:
    late = replace(FRAME, cameras=(replace(CAMERA, timestamp_us=time_us),))
    with pytest.raises(DataError) as caught:
        placed(late, TRAJECTORY)
    assert str(caught.value) == (
        f"scene s, frame s_1: image a.jpg is at {time_us} us, the scans are at 1000000 to 1200000 us; mend its time"
    )
