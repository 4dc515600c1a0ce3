"""A scan from above."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from lima_core.viz.raster import splat

BACKGROUND = (255, 255, 255)
RING = (226, 229, 234)
EGO = (20, 22, 27)


@dataclass(frozen=True)
class View:
    """What is seen, and how large."""

    radius_m: float
    """Half the edge of the square around the sensor."""
    size_px: int
    forward: tuple[float, float] | None = None
    """Where the front camera looks, LiDAR frame, unit length: up in the picture. None: the x axis is up."""
    ring_m: float = 10.0
    """Distance between range rings."""

    @property
    def words(self) -> str:
        """For captions: what is up, how wide."""
        return f"{self.words_but_width}, {2 * self.radius_m:g} m wide"

    @property
    def words_but_width(self) -> str:
        """For captions of several views that differ in nothing else."""
        up = "the x axis" if self.forward is None else "the view of the front camera"
        return f"{up} points up, rings every {self.ring_m:g} m"

    def uv_px(self, xyz: np.ndarray) -> np.ndarray:
        """(N, 2) column and row of (N, >=2) positions in the LiDAR frame."""
        ahead = np.array(self.forward or (1.0, 0.0))
        left = np.array([-ahead[1], ahead[0]])
        metres = np.stack([-xyz[:, :2] @ left, -xyz[:, :2] @ ahead], axis=1)
        return (metres / self.radius_m + 1) * (self.size_px - 1) / 2


def fit_view(xyz: np.ndarray, size_px: int, forward: tuple[float, float] | None = None, share: float = 0.9) -> View:
    """A view that holds ``share`` of the points, 20 to 60 m to each side in steps of 10 m."""
    reach = np.abs(xyz[:, :2]).max(axis=1)
    radius_m = 10 * np.ceil(np.quantile(reach, share) / 10) if len(reach) else 20.0
    return View(float(np.clip(radius_m, 20, 60)), size_px, forward)


def draw_bev(xyz: np.ndarray, rgb: np.ndarray, view: View, radius_px: float = 1.0) -> Image.Image:
    """The points from above with range rings and the ego vehicle's mark; higher points cover lower ones.

    Args:
        xyz: (N, >=3) metres, LiDAR frame.
        rgb: (N, 3) uint8.
        view: square and direction.
        radius_px: of the points.
    """
    canvas = np.asarray(_ground(view))
    picture = Image.fromarray(splat(canvas, view.uv_px(xyz), rgb, xyz[:, 2], radius_px))
    centre, arm = (view.size_px - 1) / 2, max(view.size_px / 90, 4)
    ImageDraw.Draw(picture).polygon(
        [(centre, centre - 1.6 * arm), (centre - arm, centre + arm), (centre + arm, centre + arm)],
        fill=EGO, outline=BACKGROUND,
    )  # fmt: skip
    return picture


def _ground(view: View) -> Image.Image:
    canvas = Image.new("RGB", (view.size_px, view.size_px), BACKGROUND)
    draw, centre = ImageDraw.Draw(canvas), (view.size_px - 1) / 2
    for ring in range(1, int(view.radius_m * 2**0.5 / view.ring_m) + 1):
        reach = ring * view.ring_m / view.radius_m * centre
        draw.ellipse([centre - reach, centre - reach, centre + reach, centre + reach], outline=RING)
    return canvas
