"""Voxels that stay fixed in the scene, as one sortable int64 each: nothing is ever re-aligned.

Positions are taken relative to the scene's first key frame, so that they stay small; 20 bits for x and y and 18 for z
leave 5 bits for a camera and reach 52 km (z: 13 km) at voxels of 0.1 m.
"""

import numpy as np

from lima_core.errors import DataError
from lima_core.geometry import se3
from lima_core.types import Frame

CAMERA_BITS = 5
BITS_XYZ = (20, 20, 18)
KEY_BITS = sum(BITS_XYZ)


def voxel_keys(frame: Frame, scene_from_global: np.ndarray, xyz_lidar: np.ndarray, voxel_size_m: float) -> np.ndarray:
    """(N,) int64 key of the scene voxel that each point lies in.

    Args:
        frame: the scan's pose.
        scene_from_global: (4, 4) float64, the inverse of the first key frame's ``global_from_lidar``.
        xyz_lidar: (N, 3) metres, LiDAR frame.
        voxel_size_m: edge of the cubic voxel.

    Raises:
        DataError: if a point lies further from the scene's start than the keys reach.
    """
    xyz_scene = se3.transform(scene_from_global @ frame.global_from_lidar, xyz_lidar)
    cells = np.floor(xyz_scene / voxel_size_m).astype(np.int64)
    half = np.array([1 << (bits - 1) for bits in BITS_XYZ])
    if (beyond := (np.abs(cells + 0.5) > half).any(axis=1)).any():
        row = int(beyond.argmax())
        far_km, range_km = (float(np.linalg.norm(xyz[row])) / 1000 for xyz in (xyz_scene, xyz_lidar))
        raise DataError(
            f"point {row} lies {far_km:.1f} km from the scene's first key frame, {range_km:.1f} km from its LiDAR",
            where=f"scene {frame.scene} frame {frame.index}",
            remedy="check the scan and global_from_ego, split the drive into scenes, or use larger voxels",
        )
    x, y, z = (cells + half).T
    return (x << (BITS_XYZ[1] + BITS_XYZ[2])) | (y << BITS_XYZ[2]) | z


def coarser(keys: np.ndarray, levels: int) -> np.ndarray:
    """(N,) int64 keys of the voxels of ``2**levels`` times the edge that hold the given ones.

    They are distinct among voxels of one edge only, and smaller than ``1 << KEY_BITS``.
    """
    if levels == 0:
        return keys
    x, y, z = keys >> (BITS_XYZ[1] + BITS_XYZ[2]), keys >> BITS_XYZ[2], keys
    masks = [(1 << bits) - 1 for bits in BITS_XYZ]
    x, y, z = ((axis & mask) >> levels for axis, mask in zip((x, y, z), masks, strict=True))
    return (x << (BITS_XYZ[1] + BITS_XYZ[2])) | (y << BITS_XYZ[2]) | z


def growth_levels(xyz_lidar: np.ndarray, growth_range_m: float | None) -> np.ndarray:
    """(N,) int64 how often the voxel of each point is doubled: 1 from ``growth_range_m`` on, 2 from twice that, ...

    Beams spread with range, and voxels that spread with them are hit as often; None keeps them at one size. At 20
    doublings a voxel is as wide as the keys reach.

    Args:
        xyz_lidar: (N, 3) metres, LiDAR frame.
        growth_range_m: range at which voxels double first.
    """
    if growth_range_m is None:
        return np.zeros(len(xyz_lidar), dtype=np.int64)
    range_m = np.linalg.norm(xyz_lidar, axis=1)
    doublings = np.floor(np.log2(np.maximum(range_m / growth_range_m, 0.5))).astype(np.int64) + 1
    return np.minimum(doublings, max(BITS_XYZ))
