"""Rigid motions against scipy and by their algebra."""

import numpy as np
from scipy.spatial.transform import Rotation

from lima_core.geometry import se3


def random_motion(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return se3.from_rotation_translation(Rotation.random(random_state=seed).as_matrix(), rng.normal(size=3) * 100)


def test_quaternions_are_scipys_also_when_not_of_unit_length() -> None:
    wxyz = np.array([0.3, -1.2, 0.7, 2.0])
    expected = Rotation.from_quat(wxyz[[1, 2, 3, 0]]).as_matrix()
    np.testing.assert_allclose(se3.from_quaternion(wxyz, np.zeros(3))[:3, :3], expected, atol=1e-14)


def test_invert_undoes_transform() -> None:
    dst_from_src, xyz = random_motion(0), np.random.default_rng(1).normal(size=(50, 3))
    there = se3.transform(dst_from_src, xyz.astype(np.float32))
    assert there.dtype == np.float64
    np.testing.assert_allclose(se3.transform(se3.invert(dst_from_src), there), xyz, atol=1e-5)
    np.testing.assert_allclose(se3.invert(dst_from_src), np.linalg.inv(dst_from_src), atol=1e-12)


def test_only_rigid_motions_are_rigid() -> None:
    motion = random_motion(3)
    mirrored, scaled, broken = motion.copy(), motion.copy(), motion.copy()
    mirrored[:3, 0] *= -1
    scaled[:3, :3] *= 1.1
    broken[0, 3] = np.nan
    assert se3.is_rigid(motion)
    assert not any(se3.is_rigid(matrix) for matrix in (mirrored, scaled, broken, motion[:3]))
