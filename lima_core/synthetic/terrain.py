"""Gentle hills and ground rectangles that follow them."""

from dataclasses import dataclass

import numpy as np

from lima_core.seeds import numpy_rng
from lima_core.synthetic.mesh import Mesh, labelled, merge
from lima_core.synthetic.shapes import Look, Rect, quads

CELL_M = 6.0
SKIRT_M = 0.5
"""Ground sheets have walls that reach this far down: they are kerbs, and close the seams between sheets."""


@dataclass(frozen=True)
class Hills:
    """Height of the road surface as a sum of three waves; slopes stay below about 2 per cent."""

    wave: np.ndarray
    """(3, 2) float64, radians a metre along x and y."""
    phase: np.ndarray
    """(3,) float64, radians."""
    amplitude_m: float = 0.25

    def height(self, x_m: np.ndarray | float, y_m: np.ndarray | float) -> np.ndarray:
        """Height in metres at positions of any shape."""
        position = np.stack([np.asarray(x_m, float), np.asarray(y_m, float)], -1)
        return self.amplitude_m * np.sin(position @ self.wave.T + self.phase).sum(-1)

    def slope(self, x_m: float, y_m: float) -> np.ndarray:
        """(2,) rise a metre along x and y."""
        return self.amplitude_m * (np.cos(self.wave @ [x_m, y_m] + self.phase) @ self.wave)


def make_hills(seed: int) -> Hills:
    """Three waves of 130 to 300 m."""
    rng = numpy_rng(seed, "hills")
    heading, length_m = rng.uniform(0, 2 * np.pi, 3), rng.uniform(130, 300, 3)
    wave = (2 * np.pi / length_m)[:, None] * np.stack([np.cos(heading), np.sin(heading)], 1)
    return Hills(wave, rng.uniform(0, 2 * np.pi, 3))


def _cuts(low_m: float, high_m: float) -> np.ndarray:
    return np.linspace(low_m, high_m, max(int(np.ceil((high_m - low_m) / CELL_M)), 1) + 1)


def sheet(
    rect: Rect, above_m: float, look: Look, hills: Hills, raw_class: int, along: str | None = None,
    side: Look | None = None,
) -> Mesh:  # fmt: skip
    """Ground over a rectangle, ``above_m`` over the hills, with skirts.

    Args:
        rect: metres, plan frame.
        above_m: height over the road surface.
        look: what it is paved with.
        hills: the town's hills.
        raw_class: raw lidarseg index.
        along: ``x`` or ``y`` stretches the texture's v once across the rectangle (carriageways); else it is free.
        side: what the skirts are made of, ``look`` by default.
    """
    xs, ys = _cuts(rect[0], rect[2]), _cuts(rect[1], rect[3])
    x, y = np.meshgrid(xs, ys, indexing="ij")
    top = np.stack([x, y, hills.height(x, y) + above_m], -1)
    uv = np.stack([x, y], -1)
    if along:
        uv = np.stack([x, y - rect[1]] if along == "x" else [y, x - rect[0]], -1)
    pick = [lambda a: a[:-1, :-1], lambda a: a[1:, :-1], lambda a: a[1:, 1:], lambda a: a[:-1, 1:]]
    corners, positions = (np.stack([p(a) for p in pick], 2).reshape(-1, 4, a.shape[-1]) for a in (top, uv))
    edges = [top[:, 0], top[-1], top[::-1, -1], top[0, ::-1]]
    skirts = [_skirt(edge) for edge in edges]
    around = quads(*(np.concatenate(part) for part in zip(*skirts, strict=True)), side or look)
    return labelled(merge([quads(corners, positions, look), around]), raw_class)


def _skirt(edge: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wall below an edge (E, 3): corners (E - 1, 4, 3) and texture positions (E - 1, 4, 2), u along and v up."""
    low = edge - [0, 0, SKIRT_M]
    corners = np.stack([low[:-1], low[1:], edge[1:], edge[:-1]], 1)
    step = edge[1:] - edge[:-1]
    stop = np.cumsum(np.sqrt((step * step).sum(1)))
    uv = np.zeros((len(step), 4, 2))
    uv[1:, 0, 0], uv[1:, 3, 0], uv[:, 1, 0], uv[:, 2, 0] = stop[:-1], stop[:-1], stop, stop
    uv[:, 2:, 1] = SKIRT_M
    return corners, uv
