"""From LiDAR points to image positions: all cameras and points of a frame in one vectorised pass.

One composed matrix per camera, ``camera_from_lidar = inv(global_from_camera) @ global_from_lidar``, in which each
sensor has the ego pose of its own time. nuscenes-devkit chains the four transforms in float32 and loses about
0.03 px to global coordinates of some kilometres; here the chain is float64.
"""

from dataclasses import dataclass

import numpy as np

from lima_core.geometry import se3
from lima_core.types import Camera, Frame

MIN_DEPTH_M = 1.0
"""A nearer point belongs to the ego vehicle (the value of SLidR, ScaLR and SuperFlow)."""


@dataclass(frozen=True)
class Projection:
    """Where the points of a scan fall in every camera of its frame."""

    uv_px: np.ndarray
    """(C, N, 2) float64, column and row, also outside the image; NaN at depths up to ``MIN_DEPTH_M``, and where the
    distortion model does not hold."""
    depth_m: np.ndarray
    """(C, N) float64 along the optical axis."""
    visible: np.ndarray
    """(C, N) bool: deep enough and strictly inside the image."""


def camera_from_lidar(camera: Camera, global_from_lidar: np.ndarray) -> np.ndarray:
    """(4, 4) float64, metres: LiDAR at its own time to camera at its own time."""
    return se3.invert(camera.global_from_camera) @ global_from_lidar


def distort(xy: np.ndarray, distortion: np.ndarray) -> np.ndarray:
    """(N, 2) distorted normalised image coordinates; OpenCV's k1 k2 p1 p2 k3 model."""
    k1, k2, p1, p2, k3 = distortion
    x, y = xy.T
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return np.stack(
        [x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y],
        axis=1,
    )


def project_to_camera(
    camera: Camera, global_from_lidar: np.ndarray, xyz_lidar: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image positions of LiDAR points in one camera.

    Args:
        camera: the image and its geometry.
        global_from_lidar: (4, 4) float64 at the LiDAR's time.
        xyz_lidar: (N, 3) metres, LiDAR frame.

    Returns:
        uv (N, 2) float64 pixels, depth (N,) float64 metres, visible (N,) bool.
    """
    xyz_camera = se3.transform(camera_from_lidar(camera, global_from_lidar), xyz_lidar)
    depth_m = xyz_camera[:, 2]
    uv_px, visible = np.full((len(depth_m), 2), np.nan), np.zeros(len(depth_m), dtype=bool)
    deep = np.nonzero(depth_m > MIN_DEPTH_M)[0]
    xy = xyz_camera[deep, :2] / depth_m[deep, None]
    if camera.distortion is not None:
        in_field = _in_undistorted_field(xy, camera)
        deep, xy = deep[in_field], distort(xy[in_field], camera.distortion)
    uv_px[deep] = xy @ camera.intrinsics[:2, :2].T + camera.intrinsics[:2, 2]
    visible[deep] = inside_image(uv_px[deep], camera)
    return uv_px, depth_m, visible


def inside_image(uv_px: np.ndarray, camera: Camera) -> np.ndarray:
    """(N,) bool: strictly inside a margin of one pixel, ``1 < u < W - 1`` and ``1 < v < H - 1``, as in nuscenes-devkit.

    SLidR, SuperFlow and ScaLR take ``0 < u``: 3 more of 3056 points in a front image.
    """
    u, v = uv_px.T
    return (u > 1) & (u < camera.width_px - 1) & (v > 1) & (v < camera.height_px - 1)


def _in_undistorted_field(xy: np.ndarray, camera: Camera) -> np.ndarray:
    """Points far outside the field, where the distortion polynomial folds back into the image, are not seen."""
    corners = np.array([[0, 0], [camera.width_px, 0], [0, camera.height_px], [camera.width_px, camera.height_px]])
    rays = (corners - camera.intrinsics[:2, 2]) @ np.linalg.inv(camera.intrinsics[:2, :2]).T
    return np.linalg.norm(xy, axis=1) < 1.5 * np.linalg.norm(rays, axis=1).max()


def project(frame: Frame, xyz_lidar: np.ndarray) -> Projection:
    """Projects a scan into every camera of its frame; a camera without an image sees nothing.

    Args:
        frame: poses and cameras.
        xyz_lidar: (N, 3) metres, LiDAR frame.
    """
    num_cameras, num_points = len(frame.cameras), len(xyz_lidar)
    uv_px = np.full((num_cameras, num_points, 2), np.nan)
    depth_m = np.zeros((num_cameras, num_points))
    visible = np.zeros((num_cameras, num_points), dtype=bool)
    for index, camera in enumerate(frame.cameras):
        if camera is not None:
            seen = project_to_camera(camera, frame.global_from_lidar, xyz_lidar)
            uv_px[index], depth_m[index], visible[index] = seen
    return Projection(uv_px, depth_m, visible)
