"""Features of teacher, bank and student side by side, in one set of colours, on the image and from above."""

import numpy as np
from PIL import Image

from lima_core.viz import palette
from lima_core.viz.bev import View, draw_bev
from lima_core.viz.projection import points_on_image, smaller
from lima_core.viz.scores import method_name
from lima_core.viz.sheet import Panel, Row, Sheet, signed
from lima_core.viz.shown import ShownFrame

WIDTH_PX = 480
IMAGE_RADIUS_PX, BEV_RADIUS_PX = 2.0, 1.0
LOW_M, HIGH_M = -2.0, 4.0
"""Ends of the height colours, LiDAR frame."""


def features_sheet(shown: ShownFrame) -> Sheet:
    """The figure: input, teacher, bank and student; above in the camera that looks ahead, below from above."""
    camera = shown.ahead
    image = smaller(shown.images[camera], WIDTH_PX)
    bank, targets = shown.targets()
    of_bank = by_point(shown.colours(targets), bank.point_target)
    of_student = shown.colours(shown.student)
    taught = bank.point_target >= 0
    everywhere = np.ones(len(taught), dtype=bool)
    patches = Image.fromarray(shown.colours(shown.patches[camera])).resize(image.size, Image.Resampling.NEAREST)
    on_image = [image, patches, _ahead(shown, of_bank, taught), _ahead(shown, of_student, everywhere)]
    view = shown.view(image.width)
    now, now_targets = shown.targets(1)
    method = method_name(shown.sources.student.method)
    from_above = [
        (height_colours(shown.points), "height"),
        (by_point(shown.colours(now_targets), now.point_target), f"current frame alone, {_share(now.point_target)}"),
        (of_bank, f"{shown.sources.window} frames, {_share(bank.point_target)}"),
        (of_student, "every point"),
    ]
    return Sheet(
        title="Features in one set of colours",
        subtitle=f"{shown.named}\nteacher: {shown.sources.store.facts.teacher}",
        heads=("Input", "Teacher: patches", "Bank: pooled targets", f"Student: {method}"),
        rows=[
            Row([Panel(picture) for picture in on_image], shown.cameras[camera]),
            Row([Panel(_above(shown, rgb, view), words) for rgb, words in from_above], "From above"),
        ],
        legends=[[(palette.css(palette.NOT_TAUGHT), "not taught")]],
        notes=(
            "Colours: three main directions of the teacher's patches of this frame (PCA of unit vectors), "
            "the same for all three; 2nd to 98th percentile of each.",
            f"From above: {view.words}. Height above the sensor from {signed(LOW_M)} m (dark) "
            f"to {signed(HIGH_M)} m (bright).",
        ),
    )  # fmt: skip


def by_point(targets: np.ndarray, point_target: np.ndarray) -> np.ndarray:
    """(N, 3) uint8 colours of points from (T, 3) of their targets; grey where nothing teaches."""
    return np.concatenate([targets, np.array([palette.NOT_TAUGHT], np.uint8)])[point_target]


def height_colours(points: np.ndarray) -> np.ndarray:
    """(N, 3) uint8 of (N, >=3) points, metres."""
    return palette.mapped(np.clip((points[:, 2] - LOW_M) / (HIGH_M - LOW_M), 0, 1) * 0.92, "viridis")


def _share(point_target: np.ndarray) -> str:
    return f"{100 * (point_target >= 0).mean():.1f} % taught"


def _ahead(shown: ShownFrame, rgb: np.ndarray, drawn: np.ndarray) -> Image.Image:
    seen = shown.projection.visible[shown.ahead] & drawn
    return points_on_image(
        shown.images[shown.ahead], shown.projection.uv_px[shown.ahead, seen], rgb[seen],
        shown.projection.depth_m[shown.ahead, seen], WIDTH_PX, IMAGE_RADIUS_PX,
    )  # fmt: skip


def _above(shown: ShownFrame, rgb: np.ndarray, view: View) -> Image.Image:
    return draw_bev(shown.points, rgb, view, BEV_RADIUS_PX)
