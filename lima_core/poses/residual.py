"""Pose quality: static surfaces seen from two consecutive key frames must coincide; the residual says by how much not.

Flat patches of the one scan, moved by the poses, against planes through their neighbours in the other. Patches are
sorted by the way they face, level ones (the road) and upright ones (walls, poles, cars) in six directions; the median
of each direction outvotes moving objects; the direction that fits worst is the pair's residual. So a road, which says
nothing about a shift along it, cannot hide one (the idea of normal-space sampling, Rusinkiewicz and Levoy 2001). An
upright patch that the other scan looks through, its beams ending well behind, is off by the whole search radius.

Exact poses leave range noise and the bend of surfaces between beams: 1.4 cm on the synthetic world (range noise 2 cm,
20 pairs). There, poses off by 5, 10, 20, 50 cm in any direction read 4.2, 8.3, 17, 42 cm in the median, 0.1 and 0.5
degrees 2.1 and 8.0 cm; on a real drive (PandaSet) 4.9, 9.3, 18, 45, 3.8 and 17 cm, 2.6 cm as recorded.
Above a metre the figure saturates at 100 cm. It is blind to a
slow drift over many frames, since each pair looks fine, and to a shift along a tunnel or across an open field.
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
from lima_core.poses import MAX_RANGE_M, MIN_RANGE_M
from lima_core.types import Frame

MAX_PAIRS = 20
"""Pairs of a data set that are looked at, evenly spaced over all: 0.1 to 0.4 s each on one core."""

RADIUS_M = 1.0
"""All points of a patch are this near: beyond lie other surfaces, or too few beams."""

NUM_NEIGHBOURS = 8
MIN_PATCHES = 30
"""Fewer say nothing about a direction."""

THICKNESS_M = 0.06
"""Largest standard deviation of a patch's points across it; at most a third of that along it."""

SLENDER = 0.2
"""Smallest ratio of a patch's two extents: the points of one ring are a line and have no normal."""

SAME_FACE = 0.9
"""Smallest cosine between the normals of one surface in two scans."""

LEVEL, UPRIGHT = 0.9, 0.5
"""Vertical part of the normal: above the one a patch is level, below the other upright."""

NUM_AZIMUTHS = 6
BEAM_RAD = np.deg2rad(0.7)
"""Beams this near to a patch's direction would have met it."""

NUM_BEAMS = 4


@dataclass(frozen=True)
class Patches:
    """Flat neighbourhoods of points; rows that are not flat hold meaningless values."""

    flat: np.ndarray
    """(N,) bool."""
    centre: np.ndarray
    """(N, 3) float64 metres."""
    normal: np.ndarray
    """(N, 3) float64 unit length, either sign."""


def dataset_residuals_cm(dataset: Dataset, frames: Sequence[Frame], max_pairs: int = MAX_PAIRS) -> dict[int, float]:
    """Residual by the position in ``frames`` of a pair's second frame, for evenly spaced consecutive key frames.

    Args:
        dataset: reads the scans.
        frames: scene by scene, in time order.
        max_pairs: bounds the cost.
    """
    pairs = [row for row, (a, b) in enumerate(pairwise(frames), 1) if a.scene == b.scene]
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(max_pairs, len(pairs))).round().astype(int))
    rows = [pairs[index] for index in chosen]
    found = {row: frame_residual_cm(dataset, frames[row - 1], frames[row]) for row in rows}
    return {row: residual for row, residual in found.items() if residual is not None}


def frame_residual_cm(dataset: Dataset, a: Frame, b: Frame) -> float | None:
    """Residual of two frames of a scene; None where they share too few surfaces."""
    b_from_a = se3.invert(b.global_from_lidar) @ a.global_from_lidar
    return scan_residual_cm(dataset.load_points(a)[:, :3], dataset.load_points(b)[:, :3], b_from_a)


def scan_residual_cm(xyz_a: np.ndarray, xyz_b: np.ndarray, b_from_a: np.ndarray) -> float | None:
    """Residual of two scans.

    Args:
        xyz_a: (N, 3) float32 metres, LiDAR frame.
        xyz_b: (M, 3) float32 metres, LiDAR frame.
        b_from_a: (4, 4) float64 as the poses say.

    Returns:
        Centimetres, in the direction that fits worst; None where no direction has enough patches.
    """
    seeds, surface_a, surface_b = _thinned(xyz_a, 0.5), _thinned(xyz_a, 0.1), _thinned(xyz_b, 0.1)
    if min(len(surface_a), len(surface_b)) < NUM_NEIGHBOURS:
        return None
    patches = find_patches(seeds, surface_a)
    centre = se3.transform(b_from_a, seeds[patches.flat])
    normal = patches.normal[patches.flat] @ b_from_a[:3, :3].T
    distance_m = surface_distances(centre, normal, surface_b)
    told = np.isfinite(distance_m)
    medians = [
        float(np.median(distance_m[told & faces]))
        for faces in _directions(normal)
        if np.count_nonzero(told & faces) >= MIN_PATCHES
    ]
    return 100 * max(medians) if medians else None


def find_patches(seeds: np.ndarray, surface: np.ndarray) -> Patches:
    """Planes through the nearest points of ``surface`` around every seed; both (N, 3) float64 metres."""
    reach_m, neighbours = cKDTree(surface).query(seeds, NUM_NEIGHBOURS, distance_upper_bound=RADIUS_M)
    near = np.isfinite(reach_m[:, -1])
    points = surface[np.where(near[:, None], neighbours, 0)]
    centre = points.mean(axis=1)
    off_centre = points - centre[:, None]
    variance, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", off_centre, off_centre) / NUM_NEIGHBOURS)
    thin = (variance[:, 0] < THICKNESS_M**2) & (variance[:, 0] < variance[:, 1] / 9)
    wide = variance[:, 1] > SLENDER**2 * variance[:, 2]
    return Patches(near & thin & wide, centre, axes[:, :, 0])


def surface_distances(centre: np.ndarray, normal: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """Distance of patches from the same surfaces in another scan.

    Args:
        centre: (N, 3) float64 metres, the other scan's LiDAR frame.
        normal: (N, 3) of each patch, same frame.
        surface: (M, 3) metres, the other scan.

    Returns:
        (N,) metres; RADIUS_M where the other scan sees through an upright patch; NaN where it does not tell.
    """
    other = find_patches(centre, surface)
    same = other.flat & (np.abs(np.einsum("ni,ni->n", normal, other.normal)) > SAME_FACE)
    across_m = np.abs(np.einsum("ni,ni->n", centre - other.centre, other.normal))
    through = ~same & (np.abs(normal[:, 2]) < UPRIGHT) & _seen_through(centre, surface)
    return np.where(same, across_m, np.where(through, RADIUS_M, np.nan))


def _seen_through(centre: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """(N,) bool: all beams near the direction of a point end more than RADIUS_M behind it."""
    range_m, beam_m = np.linalg.norm(centre, axis=1), np.linalg.norm(surface, axis=1)
    directions = cKDTree(surface / beam_m[:, None])
    angle, beams = directions.query(centre / range_m[:, None], NUM_BEAMS, distance_upper_bound=BEAM_RAD)
    nearest_m = np.append(beam_m, 0.0)[beams].min(axis=1)  # too few beams near: the tree's row for none, 0 m
    return np.isfinite(angle[:, -1]) & (nearest_m > range_m + RADIUS_M)


def _directions(normal: np.ndarray) -> list[np.ndarray]:
    """Masks (N,) of the patches that are level, and of those upright by azimuth (mod 180 degrees)."""
    vertical = np.abs(normal[:, 2])
    turns = np.arctan2(normal[:, 1], normal[:, 0]) / np.pi % 1
    azimuth = np.minimum((turns * NUM_AZIMUTHS).astype(int), NUM_AZIMUTHS - 1)
    return [vertical > LEVEL, *((vertical < UPRIGHT) & (azimuth == number) for number in range(NUM_AZIMUTHS))]


def _thinned(xyz: np.ndarray, size_m: float) -> np.ndarray:
    """(K, 3) float64: one point of every occupied cell, so that a near road counts no more than a far wall."""
    range_m = np.linalg.norm(xyz, axis=1)
    used = xyz[(range_m > MIN_RANGE_M) & (range_m < MAX_RANGE_M)]
    cells = voxel_coords(torch.from_numpy(used), CartesianGrid(size_m=(size_m, size_m, size_m)))
    kept = unique_voxels(torch.nn.functional.pad(cells, (1, 0)))[1]
    return used[kept.numpy()].astype(np.float64)
