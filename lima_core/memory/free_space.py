"""Free-space gate: what was seen at a place is forgotten where a neighbouring scan proves the place empty.

A place is proven empty if the beams just above and just below it, in its own and in both neighbouring columns, all
return from well beyond it. That is asked both ways at every key frame: the last scan's points against the current
scan (a thing has left; the observations it made are no longer true), and the current points against the last scan (a
thing has arrived; what was seen there before was something else). Two scans are looked at, whatever the window.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from lima_core.geometry import se3
from lima_core.types import Config

Directions = Literal["both", "left", "arrived"]
COLUMN_DEG = 0.7
WIDEST_GAP_DEG = 2.0
"""Beams further apart than this prove nothing about what lies between them."""
NEAREST_M = 1.5
_NUM_COLUMNS = round(360 / COLUMN_DEG)
_COLUMN_STRIDE = 1000.0
"""Sort key: column * stride + elevation in degrees + 90."""


class FreeSpaceConfig(Config):
    """Parameters chosen on the synthetic world, where it is known what moves: see docs/memory.md."""

    directions: Directions = "both"
    """``left``: forget what the current scan sees through; ``arrived``: teach nothing old to what the last scan saw
    through."""
    margin_m: float = Field(0.3, ge=0)
    """Beams must return from further beyond than this,"""
    margin_share: float = Field(0.02, ge=0)
    """plus this share of the range."""


class ScanView:
    """A scan as its LiDAR saw it: columns of azimuth, in each the beams sorted by elevation."""

    def __init__(self, xyz_lidar: np.ndarray) -> None:
        column, elevation_deg, range_m = _directions(xyz_lidar)
        key = _key(column, elevation_deg)
        order = np.argsort(key, kind="stable")
        self._key, self._column = key[order], column[order]
        self._elevation_deg, self._range_m = elevation_deg[order], range_m[order]

    def sees_through(self, xyz_lidar: np.ndarray, config: FreeSpaceConfig) -> np.ndarray:
        """(M,) bool: places that this scan proves empty.

        Args:
            xyz_lidar: (M, 3) metres, in the LiDAR frame of this scan.
            config: margins.
        """
        column, elevation_deg, range_m = _directions(xyz_lidar)
        beyond_m = range_m * (1 + config.margin_share) + config.margin_m
        rows = np.nonzero(range_m > NEAREST_M)[0]
        rows = rows[np.argsort(_key(column[rows], elevation_deg[rows]))]  # searches in order are fast
        for side in (0, -1, 1):  # most places fall at the first
            near = (column[rows] + side) % _NUM_COLUMNS
            rows = rows[self._around(near, elevation_deg[rows], beyond_m[rows])]
        through = np.zeros(len(column), dtype=bool)
        through[rows] = True
        return through

    def _around(self, column: np.ndarray, elevation_deg: np.ndarray, beyond_m: np.ndarray) -> np.ndarray:
        """(M,) bool: the beams next above and below in these columns are close enough and both go on."""
        if not len(self._key):
            return np.zeros(len(column), dtype=bool)
        above = np.searchsorted(self._key, _key(column, elevation_deg))
        there = (above > 0) & (above < len(self._key))  # none lies above the very last beam, none below the first
        above = np.where(there, above, 0)
        below = above - 1
        there &= (self._column[above] == column) & (self._column[below] == column)
        close = self._elevation_deg[above] - self._elevation_deg[below] < WIDEST_GAP_DEG
        return there & close & (self._range_m[above] > beyond_m) & (self._range_m[below] > beyond_m)


def _key(column: np.ndarray, elevation_deg: np.ndarray) -> np.ndarray:
    return column * _COLUMN_STRIDE + elevation_deg + 90


def _directions(xyz_lidar: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column (N,) int64, elevation (N,) degrees, range (N,) metres."""
    x, y, z = xyz_lidar.astype(np.float64).T
    column = np.floor((np.arctan2(y, x) / (2 * np.pi) + 0.5) * _NUM_COLUMNS).astype(np.int64) % _NUM_COLUMNS
    return column, np.degrees(np.arctan2(z, np.hypot(x, y))), np.sqrt(x * x + y * y + z * z)


@dataclass(frozen=True)
class _Scan:
    view: ScanView
    xyz_lidar: np.ndarray
    global_from_lidar: np.ndarray
    voxel: np.ndarray


class FreeSpaceGate:
    """Compares every scan with the one before it."""

    def __init__(self, config: FreeSpaceConfig) -> None:
        self._config = config
        self._last: _Scan | None = None

    def emptied(self, xyz_lidar: np.ndarray, global_from_lidar: np.ndarray, voxel: np.ndarray) -> np.ndarray:
        """Voxels in which nothing seen before the current scan counts any more.

        Args:
            xyz_lidar: (N, 3) metres, the current scan in its LiDAR frame.
            global_from_lidar: (4, 4) float64.
            voxel: (N,) int64 scene voxel key of each point.

        Returns:
            (V,) int64 distinct keys, sorted.
        """
        scan, last = _Scan(ScanView(xyz_lidar), xyz_lidar, global_from_lidar, voxel), self._last
        self._last = scan
        if last is None:
            return np.zeros(0, dtype=np.int64)
        pairs = {"left": (last, scan), "arrived": (scan, last)}
        chosen = pairs.values() if self._config.directions == "both" else [pairs[self._config.directions]]
        return np.unique(np.concatenate([self._seen_through(points, by) for points, by in chosen]))

    def _seen_through(self, points: _Scan, by: _Scan) -> np.ndarray:
        """Voxels of the points of one scan that another sees through."""
        xyz = se3.transform(se3.invert(by.global_from_lidar) @ points.global_from_lidar, points.xyz_lidar)
        return points.voxel[by.view.sees_through(xyz, self._config)]
