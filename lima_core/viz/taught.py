"""What teaches the points of one frame, on its images and from above."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from lima_core.geometry.camera import Projection
from lima_core.stores.memory_bank import FrameBank
from lima_core.viz import html, palette
from lima_core.viz.bev import View, draw_bev
from lima_core.viz.projection import front_camera, points_on_image, smaller

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


@dataclass(frozen=True)
class TaughtFrame:
    """All that the pictures of one frame are made from."""

    points: np.ndarray
    """(N, >=3) metres, LiDAR frame."""
    cameras: tuple[str, ...]
    """Rig order."""
    images: tuple[np.ndarray | None, ...]
    """(H, W, 3) uint8 of every camera, or None."""
    projection: Projection
    bank: FrameBank
    window: int
    """Key frames that the bank remembers."""
    patches: np.ndarray | None
    """(cameras, h, w, 3) uint8 colours of the teacher's patches, where there are features."""
    targets: np.ndarray | None
    """(T, 3) uint8 colours of the bank's targets, by the same map."""

    @cached_property
    def taught(self) -> Taught:
        """What teaches each point."""
        return taught_points(self.bank)

    @property
    def ahead(self) -> int | None:
        """The camera that looks ahead, of those that have an image."""
        there = [number for number, image in enumerate(self.images) if image is not None]
        return there[front_camera([self.cameras[number] for number in there])] if there else None


def frame_pictures(frame: TaughtFrame, view: View) -> Iterator[str]:
    """HTML: the camera that looks ahead, the scan from above, then all cameras."""
    yield _shares(frame.taught)
    if frame.ahead is None:
        yield html.note("There are no pictures of cameras: this frame has no image.")
    else:
        yield from _ahead(frame, frame.ahead)
    yield html.legend(_source_legend())
    yield html.pictures(list(_from_above(frame, view)), 2)
    strip = [
        (name, depth_picture(image, frame.projection, number, SMALL_PX), True)
        for number, (name, image) in enumerate(zip(frame.cameras, frame.images, strict=True))
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


def _ahead(frame: TaughtFrame, camera: int) -> Iterator[str]:
    image, name = frame.images[camera], frame.cameras[camera]
    assert image is not None
    depth = depth_picture(image, frame.projection, camera, WIDE_PX)
    count = window_picture(image, frame.projection, camera, frame.taught, frame.window, WIDE_PX)
    named = [
        (name, smaller(image, WIDE_PX), True),
        (f"{name}: LiDAR points by depth", depth, True),
        (f"{name}: LiDAR points by how many frames of the window teach them", count, True),
    ]
    if frame.patches is not None:
        patches = patch_picture(frame.patches[camera], depth.size)
        named.append((f"{name}: the teacher's patches; three main directions as colours", patches, False))
    yield html.pictures(named, 2)
    depths = palette.depth_colours(np.geomspace(NEAR_M, FAR_M, 12), NEAR_M, FAR_M)
    yield html.colour_bar(map(palette.css, depths), f"depth {NEAR_M:g} m", f"{FAR_M:g} m, logarithmic")
    if frame.window > 1:
        counts = window_colours(np.arange(1, frame.window + 1), frame.window)
        yield html.colour_bar(map(palette.css, counts), "taught by 1 frame", f"{frame.window} frames")


def _from_above(frame: TaughtFrame, view: View) -> Iterator[tuple[str, Image.Image, bool]]:
    sources = palette.source_colours(frame.taught.youngest_age)
    yield f"From above, by what teaches each point; {view.words}", draw_bev(frame.points, sources, view), False
    if frame.targets is not None:
        table = np.concatenate([frame.targets, np.array([palette.NOT_TAUGHT], np.uint8)])
        picture = draw_bev(frame.points, table[frame.bank.point_target], view)
        yield "From above, the pooled targets in the colours of the teacher's patches; grey: not taught", picture, False


def _source_legend() -> Iterator[tuple[str, str]]:
    yield palette.css(palette.TAUGHT_NOW), "taught by the current frame"
    yield palette.css(palette.TAUGHT_BY_PAST), "only by earlier frames"
    yield palette.css(palette.NOT_TAUGHT), "not taught"


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


def patch_picture(rgb: np.ndarray, size_px: tuple[int, int]) -> Image.Image:
    """(h, w, 3) uint8 colours of patches as an image of that width and height, every patch a flat rectangle."""
    return Image.fromarray(rgb).resize(size_px, Image.Resampling.NEAREST)


def _picture(image: np.ndarray, projection: Projection, camera: int, rgb: np.ndarray, width_px: int) -> Image.Image:
    seen = projection.visible[camera]
    uv_px, depth_m = projection.uv_px[camera, seen], projection.depth_m[camera, seen]
    return points_on_image(image, uv_px, rgb, depth_m, width_px)
