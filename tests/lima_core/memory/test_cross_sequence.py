"""Mixing keeps every direction exactly once, from exactly one of the two scans."""

import numpy as np
import pytest

from lima_core.memory.cross_sequence import CrossSequenceConfig, split_regions


def scan(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(5000, 3)) * [20, 20, 2]


@pytest.mark.parametrize("regions", ["frustum", "polar"])
def test_every_direction_comes_from_exactly_one_scan(regions: str) -> None:
    config, xyz = CrossSequenceConfig(regions=regions), scan(0)
    for seed in range(8):
        keep_a, keep_b = split_regions(config, xyz, xyz, np.random.default_rng(seed))
        np.testing.assert_array_equal(keep_a, ~keep_b)
        assert 0.05 < keep_a.mean() < 0.95


def test_frustum_regions_alternate_in_azimuth_or_inclination() -> None:
    config, xyz = CrossSequenceConfig(regions="frustum", min_areas=4, max_areas=4), scan(0)
    azimuth, inclination = np.arctan2(xyz[:, 1], xyz[:, 0]), np.arctan2(xyz[:, 2], np.linalg.norm(xyz[:, :2], axis=1))
    changes = []
    for seed in range(8):
        keep, _ = split_regions(config, xyz, scan(1), np.random.default_rng(seed))
        changes.append(
            tuple(int(np.diff(keep[np.argsort(angle)].astype(int)).__abs__().sum()) for angle in (azimuth, inclination))
        )
    assert {min(pair) for pair in changes} == {3}
    assert {np.argmin(pair) for pair in changes} == {0, 1}


def test_mixing_is_a_function_of_the_generator() -> None:
    config = CrossSequenceConfig()
    first, second = (split_regions(config, scan(0), scan(1), np.random.default_rng(3)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_areas_must_be_ordered() -> None:
    with pytest.raises(ValueError, match="min_areas 5 is above max_areas 4"):
        CrossSequenceConfig(min_areas=5, max_areas=4)
