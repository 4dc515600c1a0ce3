"""What stands along a street and is nobody's vehicle: lamps, signals, signs, bins, fences."""

from dataclasses import dataclass

import numpy as np

from lima_core.seeds import numpy_rng
from lima_core.synthetic.categories import raw
from lima_core.synthetic.mesh import Mesh, labelled, merge
from lima_core.synthetic.shapes import Look, about, box, cylinder

SIGN_TINTS = ((0.75, 0.10, 0.10), (0.10, 0.25, 0.70), (0.90, 0.70, 0.10), (0.10, 0.45, 0.20))


def lamp(rng: np.random.Generator) -> Mesh:
    """Street lamp of about 7 m with an arm along +y (towards the road)."""
    grey = Look("metal", tuple(rng.uniform(0.55, 1.0) * np.ones(3)))
    height = rng.uniform(6.0, 7.5)
    parts = [cylinder((0, 0, -0.3), (0, 0, height), (0.11, 0.07), grey, sides=6)]
    parts.append(cylinder((0, 0, height), (0, 1.8, height + 0.3), (0.05, 0.05), grey, sides=4))
    parts.append(box(about(0, 1.9, 0.25, 0.7), height + 0.2, height + 0.35, grey))
    return labelled(merge(parts), raw("static.manmade"))


def signal(rng: np.random.Generator) -> Mesh:
    """Traffic light facing -x."""
    pole = Look("metal", tuple(rng.uniform(0.4, 0.7) * np.ones(3)))
    parts = [cylinder((0, 0, -0.3), (0, 0, 3.4), (0.08, 0.08), pole, sides=6)]
    parts.append(box(about(-0.15, 0, 0.25, 0.34), 2.3, 3.3, Look("signal"), Look("rubber")))
    return labelled(merge(parts), raw("static.manmade"))


def sign(rng: np.random.Generator) -> Mesh:
    """Road sign facing along x."""
    tint = SIGN_TINTS[rng.integers(len(SIGN_TINTS))]
    parts = [cylinder((0, 0, -0.3), (0, 0, 2.3), (0.04, 0.04), Look("metal"), sides=5)]
    size = rng.uniform(0.55, 0.85)
    parts.append(box(about(0, 0, 0.05, size), 2.3, 2.3 + size, Look("sign", tint)))
    return labelled(merge(parts), raw("static.manmade"))


def bin_(rng: np.random.Generator) -> Mesh:
    """Litter bin: ``static.other``, a class the challenge ignores."""
    tint = tuple(rng.uniform(0.2, 0.8, 3))
    body = cylinder((0, 0, 0), (0, 0, 0.95), (0.26, 0.30), Look("machine", tint), cap=Look("rubber"))
    return labelled(body, raw("static.other"))


def fence(length_m: float, rng: np.random.Generator) -> Mesh:
    """Fence or low wall along x from the origin."""
    look = (Look("planks", tuple(rng.uniform(0.7, 1.2) * np.ones(3))), Look("brick", (0.62, 0.42, 0.34)))[
        rng.integers(2)
    ]
    return labelled(box((0.0, -0.06, length_m, 0.06), -0.3, rng.uniform(0.9, 1.7), look), raw("static.manmade"))


@dataclass(frozen=True)
class Street:
    """Furniture a town repeats."""

    lamps: tuple[Mesh, ...]
    signals: tuple[Mesh, ...]
    signs: tuple[Mesh, ...]
    bins: tuple[Mesh, ...]


def make_street(seed: int) -> Street:
    """A few of each kind."""
    rng = numpy_rng(seed, "street")
    return Street(*(tuple(make(rng) for _ in range(8)) for make in (lamp, signal, sign, bin_)))
