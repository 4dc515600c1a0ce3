"""Rigid motions as 4x4 float64 matrices named ``dst_from_src``, so that a chain can be checked by eye."""

import numpy as np


def from_rotation_translation(rotation: np.ndarray, translation_m: np.ndarray) -> np.ndarray:
    """(4, 4) float64 from a (3, 3) rotation and a (3,) translation in metres."""
    dst_from_src = np.eye(4)
    dst_from_src[:3, :3] = rotation
    dst_from_src[:3, 3] = translation_m
    return dst_from_src


def from_quaternion(wxyz: np.ndarray, translation_m: np.ndarray) -> np.ndarray:
    """(4, 4) float64 from a quaternion (w, x, y, z), normalised here, and a (3,) translation in metres."""
    w, x, y, z = np.asarray(wxyz, dtype=np.float64) / np.linalg.norm(wxyz)
    rotation = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return from_rotation_translation(np.array(rotation), translation_m)


def invert(dst_from_src: np.ndarray) -> np.ndarray:
    """``src_from_dst`` of a rigid motion: (4, 4) float64, exact up to rounding."""
    rotation = dst_from_src[:3, :3]
    return from_rotation_translation(rotation.T, -rotation.T @ dst_from_src[:3, 3])


def transform(dst_from_src: np.ndarray, xyz_src: np.ndarray) -> np.ndarray:
    """(N, 3) float64 points in the dst frame, from (N, 3) points in the src frame, metres."""
    return np.asarray(xyz_src, dtype=np.float64) @ dst_from_src[:3, :3].T + dst_from_src[:3, 3]


def is_rigid(matrix: np.ndarray, tolerance: float = 1e-3) -> bool:
    """True for a finite (4, 4) matrix whose rotation is orthonormal and right-handed within ``tolerance``."""
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        return False
    rotation = matrix[:3, :3]
    orthonormal = np.allclose(rotation @ rotation.T, np.eye(3), atol=tolerance)
    return orthonormal and np.linalg.det(rotation) > 0 and np.allclose(matrix[3], [0, 0, 0, 1])
