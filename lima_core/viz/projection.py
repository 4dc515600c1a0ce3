"""LiDAR points on camera images."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from lima_core.viz.raster import splat

DIM = 0.55
"""Brightness of the image behind the points, and how much of its colour is left."""


def points_on_image(
    image: np.ndarray, uv_px: np.ndarray, rgb: np.ndarray, depth_m: np.ndarray, width_px: int, radius_px: float = 1.0
) -> Image.Image:
    """The image, smaller and dimmed, with its points; nearer points cover farther ones.

    Args:
        image: (H, W, 3) uint8 RGB.
        uv_px: (N, 2) positions in ``image`` of the visible points.
        rgb: (N, 3) uint8.
        depth_m: (N,) along the optical axis.
        width_px: of the result.
        radius_px: of the points in the result.
    """
    small = np.asarray(smaller(image, width_px))
    scale = small.shape[1] / image.shape[1]
    return Image.fromarray(splat(dimmed(small), (uv_px + 0.5) * scale - 0.5, rgb, -depth_m, radius_px))


def smaller(image: np.ndarray, width_px: int) -> Image.Image:
    """The image at a width, its proportions kept; never larger than it is."""
    width_px = min(width_px, image.shape[1])
    height_px = max(round(image.shape[0] * width_px / image.shape[1]), 1)
    return Image.fromarray(image).resize((width_px, height_px), Image.Resampling.LANCZOS)


def dimmed(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8, darker and greyer, so that the colours of points stand out."""
    return ((grey(image) + DIM * (image - grey(image))) * DIM).astype(np.uint8)


def grey(image: np.ndarray) -> np.ndarray:
    """(H, W, 1) float64 brightness of (H, W, 3)."""
    return image.mean(axis=2, keepdims=True)


def front_camera(names: Sequence[str]) -> int:
    """Which camera looks ahead, by its name: ``CAM_FRONT``, ``front_camera``, ``front``; else the first."""
    side = ("left", "right", "rear", "back")
    ahead = [
        number
        for number, name in enumerate(names)
        if "front" in name.lower() and not any(word in name.lower() for word in side)
    ]
    return ahead[0] if ahead else 0
