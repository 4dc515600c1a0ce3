"""Houses along the edges of a block."""

from itertools import pairwise

import numpy as np

from lima_core.synthetic.categories import raw
from lima_core.synthetic.mesh import Mesh, labelled, merge
from lima_core.synthetic.palette import Palette
from lima_core.synthetic.shapes import Look, Rect, box
from lima_core.synthetic.terrain import Hills

FACADES = ("brick_facade", "plaster_facade", "panel_facade", "glass_facade", "corrugated")
SHARES = (0.32, 0.28, 0.18, 0.12, 0.10)


def building(rect: Rect, hills: Hills, palette: Palette, rng: np.random.Generator) -> Mesh:
    """One house over a rectangle: often shops below, a parapet, something on the roof."""
    x0, y0, x1, y1 = rect
    ground = float(hills.height((x0 + x1) / 2, (y0 + y1) / 2))
    facade = str(rng.choice(FACADES, p=SHARES))
    tint = np.asarray(palette.walls[rng.integers(len(palette.walls))]) * rng.uniform(0.88, 1.1)
    look = Look(facade, tuple(tint))
    height = rng.uniform(5, 8) if facade == "corrugated" else 3.2 * rng.integers(2, 8) + 1
    parts, foot = [], ground - 0.6
    if facade != "corrugated" and rng.random() < 0.45:
        sign = tuple(rng.uniform(0.25, 0.95, 3))
        parts.append(
            box((x0 - 0.15, y0 - 0.15, x1 + 0.15, y1 + 0.15), ground - 0.6, ground + 3.4, Look("shopfront", sign))
        )
        foot = ground + 3.4
    parts.append(box(rect, foot, ground + height, look, Look("roof")))
    parts.append(box((x0 - 0.2, y0 - 0.2, x1 + 0.2, y1 + 0.2), ground + height - 0.3, ground + height, Look("kerb")))
    if x1 - x0 > 6 and y1 - y0 > 6:
        hut = (x0 + 2, y0 + 2, x0 + 4.5, y0 + 4.5)
        parts.append(box(hut, ground + height, ground + height + 1.8, Look("corrugated")))
    return labelled(merge(parts), raw("static.manmade"))


def _widths(length_m: float, rng: np.random.Generator) -> np.ndarray:
    """Cuts along a row of houses."""
    count = max(int(length_m / rng.uniform(11, 17)), 1)
    parts = rng.uniform(0.7, 1.3, count)
    return np.concatenate([[0.0], np.cumsum(parts / parts.sum() * length_m)])


def rows(rect: Rect, hills: Hills, palette: Palette, rng: np.random.Generator) -> Mesh:
    """Houses along all four edges of a rectangle, some gaps between them, a yard in the middle."""
    x0, y0, x1, y1 = rect
    depth = min(11.0, (x1 - x0) / 3, (y1 - y0) / 3)
    parts = []
    for y in (y0, y1 - depth):
        cuts = _widths(x1 - x0, rng)
        for a, b in pairwise(cuts):
            if rng.random() < 0.9:
                parts.append(
                    building((x0 + a, y, x0 + b - rng.choice([0.0, 0.0, 2.0]), y + depth), hills, palette, rng)
                )
    for x in (x0, x1 - depth):
        cuts = _widths(y1 - y0 - 2 * depth - 2, rng) + y0 + depth + 1
        for a, b in pairwise(cuts):
            if rng.random() < 0.9:
                parts.append(building((x, a, x + depth, b - rng.choice([0.0, 0.0, 2.0])), hills, palette, rng))
    return merge(parts)
