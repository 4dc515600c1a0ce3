"""Projection against OpenCV, and what a camera sees."""

from dataclasses import replace

import cv2
import numpy as np

from lima_core.geometry import se3
from lima_core.geometry.camera import project, project_to_camera
from lima_core.types import Camera
from tests.lima_core.memory.toy_drive import toy_drive


def front() -> tuple[Camera, np.ndarray]:
    frame = toy_drive(num_frames=1).frames[0]
    return frame.cameras[0], frame.global_from_lidar


def opencv_pixels(camera: Camera, global_from_lidar: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    camera_from_lidar = np.linalg.inv(camera.global_from_camera) @ global_from_lidar
    rotation, _ = cv2.Rodrigues(camera_from_lidar[:3, :3])
    distortion = np.zeros(5) if camera.distortion is None else camera.distortion
    pixels, _ = cv2.projectPoints(xyz, rotation, camera_from_lidar[:3, 3], camera.intrinsics, distortion)
    return pixels[:, 0]


def test_pixels_are_opencvs_with_and_without_distortion() -> None:
    camera, global_from_lidar = front()
    xyz = np.random.default_rng(0).uniform([4, -3, -2], [20, 3, 2], size=(300, 3))
    for distortion in (None, np.array([-0.2, 0.05, 0.001, -0.002, 0.01])):
        lens = replace(camera, distortion=distortion)
        uv_px, depth_m, visible = project_to_camera(lens, global_from_lidar, xyz)
        assert visible.sum() > 100
        np.testing.assert_allclose(uv_px[visible], opencv_pixels(lens, global_from_lidar, xyz)[visible], atol=1e-6)
        np.testing.assert_allclose(depth_m, xyz[:, 0] - 0.3, atol=1e-9)


def test_points_behind_near_and_outside_are_not_seen() -> None:
    camera, global_from_lidar = front()
    xyz = np.array([[10.0, 0, 0], [-10, 0, 0], [1.2, 0, 0], [10, 9, 0], [10, 0, 9], [0.3, 0, 0.1]])
    _, _, visible = project_to_camera(camera, global_from_lidar, xyz)
    np.testing.assert_array_equal(visible, [True, False, False, False, False, False])


def test_a_strong_lens_does_not_fold_far_points_back_into_the_image() -> None:
    camera, global_from_lidar = front()
    lens = replace(camera, distortion=np.array([-0.3, 0.0, 0.0, 0.0, 0.0]))
    wide = np.array([[2.0, 2.9, 0.0], [2.0, -2.9, 0.1]])
    folded = opencv_pixels(lens, global_from_lidar, wide)
    assert ((folded > 0) & (folded < [camera.width_px, camera.height_px])).all(), "the polynomial alone would fold"
    assert not project_to_camera(lens, global_from_lidar, wide)[2].any()


def test_each_sensor_has_the_pose_of_its_own_time() -> None:
    frame = toy_drive(num_frames=1).frames[0]
    moved = se3.from_rotation_translation(np.eye(3), np.array([1.5, 0, 0]))
    later = replace(frame.cameras[0], global_from_camera=moved @ frame.cameras[0].global_from_camera)
    xyz = np.array([[12.0, 0.5, 0.2]])
    _, before_m, _ = project_to_camera(frame.cameras[0], frame.global_from_lidar, xyz)
    _, after_m, _ = project_to_camera(later, frame.global_from_lidar, xyz)
    np.testing.assert_allclose(before_m - after_m, 1.5)


def test_a_frame_projects_all_its_cameras_and_a_missing_one_sees_nothing() -> None:
    drive = toy_drive(num_frames=1)
    frame = replace(drive.frames[0], cameras=(drive.frames[0].cameras[0], None, drive.frames[0].cameras[2]))
    projection = project(frame, drive.points[0])
    assert projection.visible.shape == (3, len(drive.points[0]))
    assert projection.visible[0].any() and not projection.visible[1].any() and projection.visible[2].any()
    uv_px, _, visible = project_to_camera(frame.cameras[2], frame.global_from_lidar, drive.points[0])
    np.testing.assert_array_equal(projection.uv_px[2], uv_px)
    np.testing.assert_array_equal(projection.visible[2], visible)
