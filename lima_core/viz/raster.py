"""Points on a canvas, all at once: a small disc for each, the one of highest rank on top."""

import numpy as np


def disc(radius_px: float) -> np.ndarray:
    """(K, 2) int64 column and row offsets of the pixels of a disc around (0, 0)."""
    reach = np.arange(-int(radius_px), int(radius_px) + 1)
    columns, rows = np.meshgrid(reach, reach)
    inside = columns**2 + rows**2 <= radius_px**2 + 0.5
    return np.stack([columns[inside], rows[inside]], axis=1)


def splat(canvas: np.ndarray, uv_px: np.ndarray, rgb: np.ndarray, rank: np.ndarray, radius_px: float) -> np.ndarray:
    """A copy of the canvas with the points on it, (H, W, 3) uint8.

    Args:
        canvas: (H, W, 3) uint8.
        uv_px: (N, 2) column and row, pixel centres at whole numbers; points outside are cut off.
        rgb: (N, 3) uint8.
        rank: (N,) a higher one covers a lower one (for images: minus the depth).
        radius_px: of the discs; 0 is one pixel.
    """
    height, width = canvas.shape[:2]
    order = np.argsort(rank, kind="stable")
    centre = np.rint(uv_px[order]).astype(np.int64)
    columns, rows = np.moveaxis(centre[:, None] + disc(radius_px)[None], -1, 0)
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    drawn = canvas.reshape(-1, 3).copy()
    # Of equal indices NumPy keeps the last, and the rows are sorted by rank.
    drawn[(rows * width + columns)[inside]] = np.repeat(rgb[order], columns.shape[1], axis=0)[inside.ravel()]
    return drawn.reshape(canvas.shape)
