import numpy as np
import pytest

from lima_core.datasets.labels import NUSCENES_CLASSES
from lima_core.types import IGNORE
from lima_core.viz import palette


@pytest.mark.parametrize("classes", [NUSCENES_CLASSES, tuple(f"class {i}" for i in range(42))])
def test_no_two_classes_share_a_colour(classes: tuple[str, ...]) -> None:
    colours = palette.class_colours(classes).astype(int)
    apart = np.abs(colours[:, None] - colours[None]).sum(axis=2)
    np.fill_diagonal(apart, 999)
    assert apart.min() > 15


def test_colours_of_classes_and_of_nothing() -> None:
    rgb = palette.label_colours(np.array([3, IGNORE, 0], np.uint8), NUSCENES_CLASSES)
    assert rgb.tolist() == [[255, 158, 0], list(palette.UNLABELLED), [112, 128, 144]]


def test_near_is_red_far_is_blue_and_beyond_is_clipped() -> None:
    rgb = palette.depth_colours(np.array([1.0, 2.0, 60.0, 500.0]), 2.0, 60.0).astype(int)
    assert rgb[0].tolist() == rgb[1].tolist() and rgb[2].tolist() == rgb[3].tolist()
    assert rgb[0, 0] > rgb[0, 2] and rgb[3, 2] > rgb[3, 0]


def test_source_colours() -> None:
    rgb = palette.source_colours(np.array([-1, 0, 1, 5]))
    past = palette.TAUGHT_BY_PAST
    assert [tuple(row) for row in rgb] == [palette.NOT_TAUGHT, palette.TAUGHT_NOW, past, past]


def test_comparison_colours_of_all_cases() -> None:
    truth = np.array([1, 1, 1, 1, IGNORE], np.uint8)
    first, second = np.array([1, 1, 0, 0, 1], np.uint8), np.array([1, 0, 1, 2, 1], np.uint8)
    rgb = [tuple(row) for row in palette.comparison_colours(first, second, truth)]
    assert rgb == [palette.BOTH_RIGHT, palette.GAINED, palette.LOST, palette.BOTH_WRONG, palette.UNLABELLED]


def test_css() -> None:
    assert palette.css(np.array([1, 171, 255], np.uint8)) == "#01abff"
