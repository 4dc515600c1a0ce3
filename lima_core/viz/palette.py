"""Colours with one meaning everywhere: classes, depth, age, and what teaches a point. RGB, uint8."""

import colorsys
from collections.abc import Sequence

import matplotlib
import numpy as np

from lima_core.types import IGNORE

UNLABELLED = (222, 226, 231)
"""Points whose class is not known."""

TAUGHT_NOW, TAUGHT_BY_PAST, NOT_TAUGHT = (0, 114, 178), (230, 120, 0), (190, 195, 202)
"""By the current frame; only by earlier frames; by nothing. The first two are told apart with any colour vision."""

RIGHT, WRONG = (176, 181, 188), (214, 30, 35)
"""A prediction against the truth."""

BOTH_RIGHT, GAINED, LOST, BOTH_WRONG = (200, 204, 210), (0, 114, 178), (230, 120, 0), (88, 58, 78)
"""Two predictions against the truth: both right; only the first; only the second; none."""

_NUSCENES = {
    "barrier": (112, 128, 144),
    "bicycle": (220, 20, 60),
    "bus": (255, 127, 80),
    "car": (255, 158, 0),
    "construction_vehicle": (233, 150, 70),
    "motorcycle": (255, 61, 99),
    "pedestrian": (50, 80, 255),
    "traffic_cone": (90, 150, 170),
    "trailer": (255, 140, 0),
    "truck": (255, 99, 71),
    "driveable_surface": (0, 207, 191),
    "other_flat": (175, 0, 75),
    "sidewalk": (150, 60, 190),
    "terrain": (112, 180, 60),
    "manmade": (222, 184, 135),
    "vegetation": (0, 175, 0),
    "road": (0, 190, 178),
    "building": (212, 172, 122),
}
"""After nuscenes-devkit ``color_map.py``; pedestrian, traffic_cone, sidewalk and two more are lighter, for images.

Road and building of other data sets look almost like driveable_surface and manmade, of which they are parts."""


def class_colours(classes: Sequence[str]) -> np.ndarray:
    """(K, 3) uint8, one per class name: nuScenes' own where it has one, else hues far from their neighbours'."""
    return np.array([_NUSCENES.get(name.lower(), _nth_hue(index)) for index, name in enumerate(classes)], np.uint8)


def label_colours(labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """(N, 3) uint8 colours of (N,) train ids; IGNORE is grey."""
    table = np.tile(np.array(UNLABELLED, np.uint8), (IGNORE + 1, 1))
    table[: len(classes)] = class_colours(classes)
    return table[labels]


def depth_colours(depth_m: np.ndarray, near_m: float, far_m: float) -> np.ndarray:
    """(N, 3) uint8, red near to blue far, by the logarithm of depth."""
    share = np.log(np.clip(depth_m, near_m, far_m) / near_m) / np.log(far_m / near_m)
    return mapped(1.0 - share, "turbo")


def mapped(share: np.ndarray, name: str) -> np.ndarray:
    """(N, 3) uint8 of (N,) values in 0..1 by a matplotlib colour map."""
    return (matplotlib.colormaps[name](np.asarray(share, np.float64))[..., :3] * 255).round().astype(np.uint8)


def source_colours(youngest_age: np.ndarray) -> np.ndarray:
    """(N, 3) uint8 of (N,) ages of what teaches each point: 0 the current frame, more the past, -1 nothing."""
    table = np.array([NOT_TAUGHT, TAUGHT_NOW, TAUGHT_BY_PAST], np.uint8)
    return table[np.clip(youngest_age.astype(np.int64) + 1, 0, 2)]


def error_colours(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(N, 3) uint8: right or wrong; points without truth are as unlabelled ones."""
    table = np.array([WRONG, RIGHT, UNLABELLED], np.uint8)
    return table[np.where(truth == IGNORE, 2, predicted == truth)]


def comparison_colours(first: np.ndarray, second: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(N, 3) uint8: who of two predictions is right; points without truth are as unlabelled ones."""
    table = np.array([BOTH_WRONG, LOST, GAINED, BOTH_RIGHT, UNLABELLED], np.uint8)
    case = 2 * (first == truth).astype(np.int64) + (second == truth)
    return table[np.where(truth == IGNORE, 4, case)]


def css(rgb: Sequence[int]) -> str:
    """``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*(int(value) for value in rgb))


def _nth_hue(index: int) -> tuple[int, int, int]:
    """Golden angle steps, with lightness and saturation changing in turn."""
    lightness, saturation = (0.60, 0.46, 0.76)[index % 3], (0.85, 0.5)[index // 3 % 2]
    red, green, blue = colorsys.hls_to_rgb((0.08 + index * 0.61803398875) % 1.0, lightness, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)
