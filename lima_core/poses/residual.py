"""Pose quality: static surfaces seen from two consecutive key frames must coincide; the residual says by how much not.

Points of the one scan, moved by the poses, against planes through their neighbours in the other. Level surfaces (the
road) and upright ones (walls, poles, cars) are judged apart and the larger residual counts, because a road says
nothing about a shift along it; upright surfaces count equally in every direction they face (normal-space sampling,
Rusinkiewicz and Levoy 2001), because most walls of a street are parallel to it.

Exact poses leave the range noise and the bend of surfaces between beams. On the synthetic world, where poses are exact
and range noise has 2 cm, that is {floor} cm in the median; poses off by 5, 10, 20, 50 cm read {shift}, off by 0.1 and
0.5 degrees {turn}. Moving objects are outvoted in the median and do count in the 90th percentile. The figure is blind
to a slow drift over many frames (each pair looks fine) and to a shift along a tunnel or across an open field.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy.spatial import cKDTree

from lima_core.datasets.adapter import Dataset
from lima_core.geometry import se3
from lima_core.geometry.voxels import CartesianGrid, unique_voxels, voxel_coords
from lima_core.types import Frame

MAX_PAIRS = 20
"""Pairs of a data set that are looked at, evenly spaced over all: about half a second each."""

MIN_RANGE_M = 2.5
"""Nearer points belong to the ego vehicle and move with it."""

RADIUS_M = 1.0
"""A plane's points are all this near: farther surfaces are others, or too thinly sampled."""

NUM_NEIGHBOURS = 8
MIN_POINTS = 30
"""Fewer points say nothing about a kind of surface, or about one direction."""

THICKNESS_M = 0.06
"""Largest standard deviation of a plane's points across it."""

SLENDER = 0.2
"""Smallest ratio of a plane's two extents: the points of a single ring are a line and have no normal."""

LEVEL, UPRIGHT = 0.9, 0.5
"""Surfaces with a vertical part of the normal above the one, below the other."""

NUM_AZIMUTHS = 6


@dataclass(frozen=True)
class Residual:
    """Distance of surfaces that should coincide, centimetres."""

    median_cm: float
    p90_cm: float


def dataset_residuals(dataset: Dataset, frames: Sequence[Frame], max_pairs: int = MAX_PAIRS) -> dict[str, Residual]:
    """Residual by the token of a pair's second frame, for evenly spaced pairs of consecutive key frames.

    Args:
        dataset: reads the scans.
        frames: scene by scene, in time order.
        max_pairs: bounds the cost.
    """
    pairs = [(a, b) for a, b in pairwise(frames) if a.scene == b.scene]
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(max_pairs, len(pairs))).round().astype(int))
    found = {pairs[index][1].token: frame_residual(dataset, *pairs[index]) for index in chosen}
    return {token: residual for token, residual in found.items() if residual is not None}


def frame_residual(dataset: Dataset, a: Frame, b: Frame) -> Residual | None:
    """Residual of two frames of a scene; None where they share too few surfaces."""
    b_from_a = se3.invert(b.global_from_lidar) @ a.global_from_lidar
    return scan_residual(dataset.load_points(a)[:, :3], dataset.load_points(b)[:, :3], b_from_a)


def scan_residual(xyz_a: np.ndarray, xyz_b: np.ndarray, b_from_a: np.ndarray) -> Residual | None:
    """Residual of two scans.

    Args:
        xyz_a: (N, 3) metres, LiDAR frame.
        xyz_b: (M, 3) metres, LiDAR frame.
        b_from_a: (4, 4) float64 as the poses say.

    Returns:
        The larger of level and upright surfaces, each where there are enough; None where neither are.
    """
    moved = se3.transform(b_from_a, _thinned(xyz_a, 0.5))
    distance_m, normal = plane_distances(moved, _thinned(xyz_b, 0.1))
    vertical = np.abs(normal[:, 2])
    level, upright = vertical > LEVEL, vertical < UPRIGHT
    kinds = [
        (distance_m[level], np.ones(np.count_nonzero(level))),
        (distance_m[upright], _even_weights(normal[upright])),
    ]
    both = [100 * _quantiles(*kind, (0.5, 0.9)) for kind in kinds if np.count_nonzero(kind[1]) >= MIN_POINTS]
    return Residual(*np.max(both, axis=0).tolist()) if both else None


def plane_distances(xyz: np.ndarray, surface_xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of points to the planes through their neighbours.

    Args:
        xyz: (N, 3) metres.
        surface_xyz: (M, 3) metres, same frame.

    Returns:
        (K,) metres and (K, 3) unit normals, for the points whose neighbours are near and lie in a plane.
    """
    if len(surface_xyz) < NUM_NEIGHBOURS:
        return np.zeros(0), np.zeros((0, 3))
    reach_m, neighbours = cKDTree(surface_xyz).query(xyz, NUM_NEIGHBOURS, distance_upper_bound=RADIUS_M)
    near = np.isfinite(reach_m[:, -1])
    planes = surface_xyz[neighbours[near]]
    centre = planes.mean(axis=1)
    off_centre = planes - centre[:, None]
    variance, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", off_centre, off_centre) / NUM_NEIGHBOURS)
    flat = (variance[:, 0] < THICKNESS_M**2) & (variance[:, 0] < variance[:, 1] / 9)
    wide = variance[:, 1] > SLENDER**2 * variance[:, 2]
    kept = flat & wide
    normal = axes[kept, :, 0]
    return np.abs(np.einsum("ni,ni->n", xyz[near][kept] - centre[kept], normal)), normal


def _thinned(xyz: np.ndarray, size_m: float) -> np.ndarray:
    """(K, 3) float64: one point of every occupied cell; near roads are sampled no more densely than far walls."""
    far = xyz[np.einsum("ni,ni->n", xyz, xyz) > MIN_RANGE_M**2]
    cells = voxel_coords(torch.from_numpy(far), CartesianGrid(size_m=(size_m, size_m, size_m)))
    kept = unique_voxels(torch.nn.functional.pad(cells, (1, 0)))[1]
    return far[kept.numpy()].astype(np.float64)


def _even_weights(normal: np.ndarray) -> np.ndarray:
    """(N,) weights with which every azimuth (mod 180 degrees) counts the same; 0 where one has too few points."""
    turns = np.arctan2(normal[:, 1], normal[:, 0]) / np.pi % 1
    azimuth = np.minimum((turns * NUM_AZIMUTHS).astype(int), NUM_AZIMUTHS - 1)
    count = np.bincount(azimuth, minlength=NUM_AZIMUTHS)[azimuth]
    return np.where(count >= MIN_POINTS, 1 / np.maximum(count, 1), 0.0)


def _quantiles(values: np.ndarray, weights: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Smallest values below which the given shares of the weight lie."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return values[order][np.searchsorted(reached, np.asarray(shares) * reached[-1])]
