"""Occlusion test: a point hidden behind a nearer surface in an image takes no feature from it.

A z-buffer of the scan itself. LiDAR and cameras sit apart, so the LiDAR sees over and around things that hide its
points from a camera; none of SLidR, ScaLR and SuperFlow tests this. Every point covers the gap to its neighbours: up
and down as far as the next beams (measured, so any sensor's beam table will do), left and right as far as the next
firing. In metres that footprint grows with range and beam spacing; as an angle, and in the buffer, it does not.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from pydantic import Field
from scipy.ndimage import minimum_filter1d

from lima_core.geometry.camera import MIN_DEPTH_M, Projection
from lima_core.types import Camera, Config, Frame

CELL_DEG = 0.2
"""Cell of the buffer: finer than the firings of common sensors (0.1 to 0.4 degrees between columns)."""
MARGIN_CELLS = 16
"""Points up to this far outside the image still hide points inside."""
COLUMN_DEG, ELEVATION_BIN_DEG, WIDEST_GAP_DEG = 0.7, 0.1, 2.0
"""Grid in which a beam's neighbours are looked up; a wider gap is a missing return."""
SAME_FIRING_DEG = 0.01
"""Points nearer in azimuth come from one firing: several returns, or missing ones, which some sensors put at 0."""


class OcclusionConfig(Config):
    """Parameters chosen by the true depth of the synthetic world: see docs/memory.md."""

    vertical: float = Field(0.7, gt=0)
    """Share of the gap to the next beam that a point covers, each way; 1 makes the ground hide itself."""
    horizontal: float = Field(1.5, gt=0)
    """The same of the gap to the next firing."""
    tolerance_m: float = Field(0.3, ge=0)
    """A surface must be nearer by more than this,"""
    tolerance_share: float = Field(0.03, ge=0)
    """and this share of the point's depth."""


@dataclass(frozen=True)
class Footprints:
    """Half the angle that every point of a scan covers, seen from the LiDAR, radians."""

    up: np.ndarray
    """(N,) float64."""
    down: np.ndarray
    """(N,) float64."""
    side: float


def visible_unless_hidden(
    frame: Frame, projection: Projection, xyz_lidar: np.ndarray, config: OcclusionConfig
) -> Projection:
    """The projection with hidden points no longer visible.

    Args:
        frame: gives the cameras.
        projection: of the same points.
        xyz_lidar: (N, 3) metres, LiDAR frame.
        config: footprints and tolerance.
    """
    footprints, range_m = footprints_of(xyz_lidar, config), np.linalg.norm(xyz_lidar, axis=1)
    visible = projection.visible.copy()
    for index, camera in enumerate(frame.cameras):
        if camera is not None and visible[index].any():
            uv_px, depth_m = projection.uv_px[index], projection.depth_m[index]
            surface_m = nearest_surface(camera, uv_px, depth_m, range_m, footprints)
            visible[index] &= surface_m >= depth_m * (1 - config.tolerance_share) - config.tolerance_m
    return replace(projection, visible=visible)


def footprints_of(xyz_lidar: np.ndarray, config: OcclusionConfig) -> Footprints:
    """Footprints of all points of a scan (N, 3)."""
    azimuth = np.degrees(np.arctan2(xyz_lidar[:, 1], xyz_lidar[:, 0]))
    elevation = np.degrees(np.arctan2(xyz_lidar[:, 2], np.hypot(xyz_lidar[:, 0], xyz_lidar[:, 1])))
    column = ((azimuth + 180) / COLUMN_DEG).astype(np.int64)
    row = ((elevation - elevation.min(initial=90)) / ELEVATION_BIN_DEG).astype(np.int64)
    up, down = (np.radians(gap * config.vertical) for gap in _vertical_gaps_deg(column, row))
    return Footprints(up, down, float(np.radians(_firing_gap_deg(azimuth, row) * config.horizontal)))


def _vertical_gaps_deg(column: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) degrees from every point to the next occupied row above and below in its column."""
    occupied = np.zeros((column.max(initial=0) + 1, row.max(initial=0) + 1), dtype=bool)
    occupied[column, row] = True
    above = _rows_to_previous(occupied[:, ::-1])[:, ::-1]
    below = _rows_to_previous(occupied)
    up, down = (np.minimum(gap[column, row] * ELEVATION_BIN_DEG, WIDEST_GAP_DEG) for gap in (above, below))
    return up, down


def _rows_to_previous(occupied: np.ndarray) -> np.ndarray:
    """(columns, rows) steps from each cell to the last occupied one before it in its column; huge where none is."""
    rows = np.arange(occupied.shape[1], dtype=np.int32)
    last = np.maximum.accumulate(np.where(occupied, rows, np.int32(-(1 << 20))), axis=1)
    return rows - np.pad(last, ((0, 0), (1, 0)), constant_values=-(1 << 20))[:, :-1]


def _firing_gap_deg(azimuth: np.ndarray, row: np.ndarray) -> float:
    """Median step in azimuth between neighbours of one elevation; between firings where most lie within one."""
    order = np.lexsort((azimuth, row))
    step = np.diff(azimuth[order])[np.diff(row[order]) == 0]
    if len(step) and np.median(step) < SAME_FIRING_DEG:
        step = step[step >= SAME_FIRING_DEG]
    return min(float(np.median(step)), WIDEST_GAP_DEG) if len(step) else 0.0


def nearest_surface(
    camera: Camera, uv_px: np.ndarray, depth_m: np.ndarray, range_m: np.ndarray, footprints: Footprints
) -> np.ndarray:
    """Depth of the nearest footprint that covers every point's pixel, (N,) float64 metres; inf outside the buffer.

    Args:
        camera: gives focal length and image size.
        uv_px: (N, 2) projected points.
        depth_m: (N,) along the optical axis.
        range_m: (N,) distance from the LiDAR.
        footprints: of the same points.
    """
    cell_px = camera.intrinsics[0, 0] * np.radians(CELL_DEG)
    shape = tuple(int(size / cell_px) + 2 * MARGIN_CELLS + 1 for size in (camera.height_px, camera.width_px))
    surface_m = np.full(len(uv_px), np.inf)
    points = _in_buffer(uv_px, depth_m, cell_px, shape)
    column, row = np.floor(uv_px[points] / cell_px).astype(np.int64).T + MARGIN_CELLS
    # An angle seen from the LiDAR is this many cells in the image, more towards its edges.
    cells = range_m[points] / depth_m[points] / np.radians(CELL_DEG)
    buffer_m = np.full(shape, np.inf)
    rows = cells * camera.intrinsics[1, 1] / camera.intrinsics[0, 0]  # cells are square in pixels
    reach = rows * footprints.up[points], rows * footprints.down[points]
    cover_rows(buffer_m, row, column, depth_m[points], *(value.astype(np.int64) for value in reach))
    x = ((np.arange(shape[1]) - MARGIN_CELLS) * cell_px - camera.intrinsics[0, 2]) / camera.intrinsics[0, 0]
    cover_columns(buffer_m, np.rint(np.hypot(1, x) * footprints.side / np.radians(CELL_DEG)).astype(np.int64))
    surface_m[points] = buffer_m[row, column]
    return surface_m


def _in_buffer(uv_px: np.ndarray, depth_m: np.ndarray, cell_px: float, shape: tuple[int, ...]) -> np.ndarray:
    """Points in front of the camera whose cell exists, (K,)."""
    low = -MARGIN_CELLS * cell_px
    high = (np.array(shape[::-1]) - MARGIN_CELLS - 1) * cell_px
    return np.nonzero((depth_m > MIN_DEPTH_M) & ((uv_px > low) & (uv_px < high)).all(axis=1))[0]


def cover_rows(
    buffer_m: np.ndarray, row: np.ndarray, column: np.ndarray, depth_m: np.ndarray, up: np.ndarray, down: np.ndarray
) -> None:
    """Writes points (N,) into a z-buffer (H, W) so many rows above and below their own; the nearest depth stays."""
    length = up + down + 1
    point = np.repeat(np.arange(len(row)), length)
    there = (row - up - length.cumsum() + length)[point] + np.arange(len(point))
    inside = (there >= 0) & (there < len(buffer_m))
    point, there = point[inside], there[inside]
    np.minimum.at(buffer_m.reshape(-1), there * buffer_m.shape[1] + column[point], depth_m[point])


def cover_columns(buffer_m: np.ndarray, reach: np.ndarray) -> None:
    """Lets every cell of a z-buffer (H, W) cover ``reach`` (W,) columns to both sides; the nearest depth stays."""
    own_m, last = buffer_m.copy(), len(reach)
    changes = np.nonzero(np.diff(reach))[0] + 1
    for start, stop in pairwise([0, *changes.tolist(), last]):  # columns that reach equally far
        far = min(int(reach[start]), last) if stop else 0
        low, high = max(start - far, 0), min(stop + far, last)
        part_m = np.full((len(own_m), high - low), np.inf)
        part_m[:, start - low : stop - low] = own_m[:, start:stop]
        covered_m = minimum_filter1d(part_m, 2 * far + 1, axis=1, mode="constant", cval=np.inf)
        np.minimum(buffer_m[:, low:high], covered_m, out=buffer_m[:, low:high])
