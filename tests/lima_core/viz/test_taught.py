from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from lima_core.geometry.camera import Projection
from lima_core.stores.memory_bank import FrameBank
from lima_core.viz import palette
from lima_core.viz.taught import depth_picture, frame_pictures, taught_points, window_colours


def bank_of(point_target: Sequence[int] | np.ndarray, ages: list[list[int]]) -> FrameBank:
    """A bank whose target i has references of these ages."""
    age = np.array([a for target in ages for a in target], np.uint8)
    zeros = np.zeros(len(age))
    return FrameBank(
        np.array(point_target, np.int32),
        np.array([len(target) for target in ages], np.uint16),
        age, zeros.astype(np.uint8), zeros.astype(np.uint16), zeros.astype(np.uint16),
    )  # fmt: skip


def test_youngest_age_and_frames_of_every_point() -> None:
    known = taught_points(bank_of([0, 1, -1, 2, 2, 3], [[0, 0, 2], [2], [1, 1, 4, 5], [2, 2]]))
    assert known.youngest_age.tolist() == [0, 2, -1, 1, 1, 2]
    assert known.num_frames.tolist() == [2, 1, 0, 3, 3, 1]


def test_random_banks_against_sets() -> None:
    rng = np.random.default_rng(0)
    ages = [sorted(rng.integers(0, 6, rng.integers(1, 9)).tolist()) for _ in range(40)]
    point_target = rng.integers(-1, 40, 200)
    known = taught_points(bank_of(point_target, ages))
    assert known.youngest_age.tolist() == [min(ages[t]) if t >= 0 else -1 for t in point_target]
    assert known.num_frames.tolist() == [len(set(ages[t])) if t >= 0 else 0 for t in point_target]


def test_a_bank_that_teaches_nothing() -> None:
    known = taught_points(bank_of([-1, -1], []))
    assert known.youngest_age.tolist() == [-1, -1] and known.num_frames.tolist() == [0, 0]


def test_window_colours_grow_brighter_and_nothing_is_grey() -> None:
    brightness = window_colours(np.arange(7), 6).astype(int).sum(axis=1)
    assert (np.diff(brightness[1:]) > 0).all()
    assert tuple(window_colours(np.array([0]), 6)[0]) == palette.NOT_TAUGHT


def two_cameras(images: tuple[np.ndarray | None, ...]) -> SimpleNamespace:
    """Three points; the front camera sees the first two. What ``frame_pictures`` asks of a ShownFrame."""
    uv_px = np.zeros((2, 3, 2))
    uv_px[0] = [[5, 5], [20, 10], [0, 0]]
    visible = np.array([[True, True, False], [False, False, False]])
    return SimpleNamespace(
        cameras=("side", "front"),
        images=images,
        projection=Projection(uv_px, np.full((2, 3), 5.0), visible),
        bank=bank_of([0, 1, -1], [[0], [1]]),
        ahead=next((number for number, image in enumerate(images) if image is not None), None),
        sources=SimpleNamespace(bank=SimpleNamespace(frames=3)),
    )


def test_points_are_drawn_where_they_are_visible() -> None:
    frame = two_cameras((np.zeros((20, 40, 3), np.uint8), None))
    rgb = palette.depth_colours(np.array([5.0]), 2.0, 60.0)[0]
    picture = depth_picture(frame.images[0], frame.projection, 0, 40)
    assert picture.getpixel((5, 5)) == picture.getpixel((20, 10)) == tuple(rgb)
    assert picture.getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize("num_images", [0, 1, 2])
def test_pictures_for_any_number_of_images(num_images: int) -> None:
    images = tuple(np.zeros((20, 40, 3), np.uint8) if i < num_images else None for i in range(2))
    text = "".join(frame_pictures(two_cameras(images)))
    assert "33.3 % are taught by the current frame, 33.3 % only by earlier ones, 33.3 % not at all" in text
    assert ("this frame has no image" in text) == (num_images == 0)
    assert ("All 2 cameras" in text) == (num_images == 2)
