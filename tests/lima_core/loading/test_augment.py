"""Augmentation keeps distances up to the scale, and touches nothing but x, y, z."""

import numpy as np
import pytest
import torch

from lima_core.loading.augment import AugmentConfig, augment_points, draw_matrix


def points() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


def moved(scan: np.ndarray, *matrices: np.ndarray) -> np.ndarray:
    """The points of ``scan``, in equal parts moved by each matrix."""
    part = torch.arange(len(scan)) * len(matrices) // len(scan)
    return augment_points(torch.from_numpy(scan), torch.from_numpy(np.stack(matrices)), part).numpy()


def distances(xyz: np.ndarray) -> np.ndarray:
    return np.linalg.norm(xyz[:, None] - xyz[None], axis=2)


def test_is_a_similarity_that_keeps_z_upright() -> None:
    scan = points()
    for seed in range(20):
        after = moved(scan, draw_matrix(np.random.default_rng(seed), AugmentConfig()))
        scale = after[0, 2] / scan[0, 2]
        assert 0.95 <= scale <= 1.05
        np.testing.assert_allclose(distances(after[:, :3]), scale * distances(scan[:, :3]), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(after[:, 3], scan[:, 3])
        assert after.dtype == np.float32


def test_every_scan_is_moved_by_its_own_matrix_and_only_by_it() -> None:
    scan, matrices = points(), [draw_matrix(np.random.default_rng(seed), AugmentConfig()) for seed in range(5)]
    after = moved(scan, *matrices)
    for i, matrix in enumerate(matrices):
        rows = slice(10 * i, 10 * (i + 1))
        expected = (scan[rows, :3].astype(np.float64) @ matrix.T).astype(np.float32)
        np.testing.assert_allclose(after[rows, :3], expected, rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(moved(scan[rows], matrix), after[rows])


def test_range_of_what_is_drawn() -> None:
    matrices = np.stack([draw_matrix(np.random.default_rng(seed), AugmentConfig()) for seed in range(2000)])
    determinants = np.linalg.det(matrices)
    assert (determinants < 0).mean() == pytest.approx(0.5, abs=0.05)  # exactly one of two flips
    scales = np.cbrt(np.abs(determinants))
    assert scales.min() == pytest.approx(0.95, abs=1e-3) and scales.max() == pytest.approx(1.05, abs=1e-3)
    angles = np.rad2deg(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    assert np.histogram(angles, bins=8, range=(-180, 180))[0].min() > 200


def mirrored_and_angle(matrices: np.ndarray) -> tuple[float, np.ndarray]:
    """Share of mirrored matrices, and shares of their angles (after undoing a flip of x) in 12 bins."""
    mirrored = np.linalg.det(matrices) < 0
    first = np.where(mirrored[:, None], -matrices[:, :2, 0], matrices[:, :2, 0])
    bins = np.histogram(np.rad2deg(np.arctan2(first[:, 1], first[:, 0])), bins=12, range=(-180, 180))[0]
    return mirrored.mean(), bins / len(matrices)


def turned(degrees: float, flips: tuple[float, float]) -> np.ndarray:
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ np.diag([*flips, 1.0])


def test_recipes_of_the_peers_are_these_distributions() -> None:
    rng, num = np.random.default_rng(0), 4000
    either = [(1.0, 1.0), (-1.0, 1.0), (1.0, -1.0)]
    superflow = [turned(rng.uniform(0, 180), tuple(rng.choice([-1.0, 1.0], 2))) for _ in range(num)]
    scalr = [turned(rng.uniform(-180, 180), either[rng.integers(3)]) for _ in range(num)]
    for theirs, ours in (
        (superflow, AugmentConfig(scale=(1, 1))),
        (scalr, AugmentConfig(flip_x=2 / 3, flip_y=0, scale=(1, 1))),
    ):
        drawn = [draw_matrix(rng, ours) for _ in range(num)]
        (share, bins), (our_share, our_bins) = mirrored_and_angle(np.stack(theirs)), mirrored_and_angle(np.stack(drawn))
        assert our_share == pytest.approx(share, abs=0.04)
        np.testing.assert_allclose(our_bins, bins, atol=0.025)


def test_only_rotation() -> None:
    config = AugmentConfig(rotation_deg=10, flip_x=0, flip_y=0, scale=(1, 1))
    for seed in range(50):
        matrix = draw_matrix(np.random.default_rng(seed), config)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        assert abs(np.rad2deg(np.arctan2(matrix[1, 0], matrix[0, 0]))) <= 10


def test_certain_flips() -> None:
    config = AugmentConfig(rotation_deg=0, flip_x=1, flip_y=0, scale=(1, 1))
    np.testing.assert_array_equal(draw_matrix(np.random.default_rng(0), config), np.diag([-1.0, 1, 1]))


def test_none_changes_nothing_and_the_input_is_left_alone() -> None:
    scan = torch.from_numpy(points())
    assert augment_points(scan, None, torch.zeros(len(scan), dtype=torch.int64)) is scan
    moved(scan.numpy(), draw_matrix(np.random.default_rng(0), AugmentConfig()))
    np.testing.assert_array_equal(scan.numpy(), points())


def test_scale_out_of_order() -> None:
    with pytest.raises(ValueError, match=r"augment\.scale"):
        AugmentConfig(scale=(1.1, 0.9))
