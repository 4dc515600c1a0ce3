"""What teaches the points of one frame, and its points on its images."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lima_core.geometry.camera import Projection
from lima_core.stores.memory_bank import FrameBank
from lima_core.viz import html, palette
from lima_core.viz.projection import points_on_image
from lima_core.viz.shown import ShownFrame

NEAR_M, FAR_M = 2.0, 60.0
"""Ends of the depth colours."""
WIDE_PX, SMALL_PX = 720, 440


@dataclass(frozen=True)
class Taught:
    """By point: what its target is made of."""

    youngest_age: np.ndarray
    """(N,) int64 key frames back of its youngest reference, -1 where nothing teaches it."""
    num_frames: np.ndarray
    """(N,) int64 frames of the window that its target was seen in, 0 where nothing teaches it."""


def taught_points(bank: FrameBank) -> Taught:
    """Reads both off the bank; references lie in the order of their target, then age."""
    num_targets, age = len(bank.num_references), bank.age.astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(bank.num_references.astype(np.int64))[:-1]])[:num_targets]
    new_frame = np.ones(len(age), dtype=bool)
    new_frame[1:] = age[1:] != age[:-1]
    new_frame[starts] = True
    youngest = np.append(age[starts], -1)
    frames = np.append(np.bincount(bank.target_of_reference[new_frame], minlength=num_targets), 0)
    return Taught(youngest[bank.point_target], frames[bank.point_target])


def frame_pictures(shown: ShownFrame) -> Iterator[str]:
    """HTML: the points in the camera that looks ahead, by depth and by what teaches them; then all cameras."""
    taught = taught_points(shown.bank)
    yield _shares(taught)
    if shown.ahead is None:
        yield html.note("There are no pictures of cameras: this frame has no image.")
        return
    yield from _ahead(shown, shown.ahead, taught)
    strip = [
        (name, depth_picture(image, shown.projection, number, SMALL_PX), True)
        for number, (name, image) in enumerate(zip(shown.cameras, shown.images, strict=True))
        if image is not None
    ]
    if len(strip) > 1:
        yield html.details(f"All {len(strip)} cameras with their points by depth", html.pictures(strip, 3))


def _shares(taught: Taught) -> str:
    present, past = (taught.youngest_age == 0).mean(), (taught.youngest_age > 0).mean()
    return html.note(
        f"Of its {len(taught.youngest_age)} points, {100 * present:.1f} % are taught by the current frame, "
        f"{100 * past:.1f} % only by earlier ones, {100 * (1 - present - past):.1f} % not at all."
    )


def _ahead(shown: ShownFrame, camera: int, taught: Taught) -> Iterator[str]:
    image, name, window = shown.images[camera], shown.cameras[camera], shown.sources.bank.frames
    depth = depth_picture(image, shown.projection, camera, WIDE_PX)
    count = window_picture(image, shown.projection, camera, taught, window, WIDE_PX)
    named = [
        (f"{name}: LiDAR points by depth", depth, True),
        (f"{name}: LiDAR points by how many frames of the window teach them, grey for none", count, True),
    ]
    yield html.pictures(named, 2)
    depths = palette.depth_colours(np.geomspace(NEAR_M, FAR_M, 12), NEAR_M, FAR_M)
    yield html.colour_bar(map(palette.css, depths), f"depth {NEAR_M:g} m", f"{FAR_M:g} m, logarithmic")
    if window > 1:
        counts = window_colours(np.arange(1, window + 1), window)
        yield html.colour_bar(map(palette.css, counts), "taught by 1 frame", f"{window} frames")


def depth_picture(image: np.ndarray, projection: Projection, camera: int, width_px: int) -> Image.Image:
    """The image of a camera with its points coloured by depth."""
    depth_m = projection.depth_m[camera, projection.visible[camera]]
    return _picture(image, projection, camera, palette.depth_colours(depth_m, NEAR_M, FAR_M), width_px)


def window_picture(
    image: np.ndarray, projection: Projection, camera: int, taught: Taught, window: int, width_px: int
) -> Image.Image:
    """The image of a camera with its points coloured by how many frames teach them, grey for none."""
    rgb = window_colours(taught.num_frames[projection.visible[camera]], window)
    return _picture(image, projection, camera, rgb, width_px)


def window_colours(num_frames: np.ndarray, window: int) -> np.ndarray:
    """(N, 3) uint8 of (N,) numbers of frames: grey for 0, dark to bright for 1 to ``window``."""
    share = (num_frames - 1) / max(window - 1, 1)
    rgb = palette.mapped(0.15 + 0.85 * np.clip(share, 0, 1), "plasma")
    rgb[num_frames == 0] = palette.NOT_TAUGHT
    return rgb


def _picture(image: np.ndarray, projection: Projection, camera: int, rgb: np.ndarray, width_px: int) -> Image.Image:
    seen = projection.visible[camera]
    uv_px, depth_m = projection.uv_px[camera, seen], projection.depth_m[camera, seen]
    return points_on_image(image, uv_px, rgb, depth_m, width_px)
