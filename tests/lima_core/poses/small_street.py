"""A street whose every surface is known, and scans of it from known poses: occluded, noisy, nothing moves."""

import numpy as np
from scipy.spatial.transform import Rotation

NOISE_M = 0.01


def motion(x_m: float = 0.0, y_m: float = 0.0, z_m: float = 0.0, yaw_deg: float = 0.0) -> np.ndarray:
    """A turn about z and a shift."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("z", yaw_deg, degrees=True).as_matrix()
    matrix[:3, 3] = x_m, y_m, z_m
    return matrix


def street(seed: int = 0) -> np.ndarray:
    """(N, 3) points: a road, two house fronts with gaps, and boxes (parked cars, pillars) of any heading."""
    rng = np.random.default_rng(seed)
    road = np.column_stack([rng.uniform(-40, 60, 90_000), rng.uniform(-9, 9, 90_000), np.full(90_000, -1.8)])
    fronts = np.column_stack(
        [rng.uniform(-40, 60, 90_000), np.repeat([-9.0, 9.0], 45_000), rng.uniform(-1.8, 8, 90_000)]
    )
    fronts = fronts[(fronts[:, 0] // 7).astype(int) % 3 != 0]
    boxes = [_box(rng, x_m, y_m) for x_m in range(-36, 60, 6) for y_m in (-6.0, 6.0)]
    return np.concatenate([road, fronts, *boxes])


def _box(rng: np.random.Generator, x_m: float, y_m: float) -> np.ndarray:
    """The four upright sides of a box."""
    side, along = rng.integers(0, 4, 2500), rng.uniform(-1, 1, 2500)
    corner = np.where(side[:, None] < 2, np.column_stack([along, side * 2 - 1]), np.column_stack([side * 2 - 5, along]))
    xyz = np.column_stack([corner * rng.uniform(0.8, 2, 2), rng.uniform(-1.8, 0.5, 2500)])
    turned = xyz @ Rotation.from_euler("z", rng.uniform(0, 90), degrees=True).as_matrix().T
    return turned + np.array([x_m + rng.uniform(-1, 1), y_m + rng.uniform(-0.5, 0.5), 0])


def scan(surface: np.ndarray, global_from_lidar: np.ndarray, seed: int) -> np.ndarray:
    """(N, 3) float32, LiDAR frame: the nearest point of every half degree, within 50 m."""
    xyz = (surface - global_from_lidar[:3, 3]) @ global_from_lidar[:3, :3]
    range_m = np.linalg.norm(xyz, axis=1)
    angles = np.degrees([np.arctan2(xyz[:, 1], xyz[:, 0]), np.arcsin(xyz[:, 2] / range_m)])
    order = np.argsort(range_m)
    order = order[range_m[order] < 50]
    columns, rows = np.floor(angles[:, order] / 0.5)
    _, first = np.unique(1000 * columns + rows, return_index=True)
    seen = xyz[order[first]]
    noise = NOISE_M * np.random.default_rng(seed).normal(size=(len(seen), 1))
    return (seen * (1 + noise / np.linalg.norm(seen, axis=1, keepdims=True))).astype(np.float32)
