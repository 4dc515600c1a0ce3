"""Trees, bushes and hedges: a town grows a few of each and repeats them turned, scaled and recoloured."""

from dataclasses import dataclass, replace

import numpy as np

from lima_core.seeds import numpy_rng
from lima_core.synthetic.categories import raw
from lima_core.synthetic.mesh import Mesh, labelled, merge, shifted
from lima_core.synthetic.shapes import Look, blob, cylinder, leaves

Tint = tuple[float, float, float]


def tree(rng: np.random.Generator, tints: tuple[Tint, ...]) -> Mesh:
    """Trunk, two branches and a loose crown, 4.5 to 9 m, standing on the origin."""
    height, crown_m = rng.uniform(4.5, 9.0), rng.uniform(1.4, 2.6)
    trunk_m, clear_m = rng.uniform(0.11, 0.22), height - 1.7 * crown_m
    look = Look("foliage", tints[rng.integers(len(tints))])
    bark = Look("bark", tuple(rng.uniform(0.75, 1.25) * np.ones(3)))
    lean = rng.uniform(-0.25, 0.25, 2)
    fork, top = (*lean, clear_m), (*(1.5 * lean), height - crown_m)
    parts = [cylinder((0, 0, -0.4), fork, (trunk_m, trunk_m * 0.8), bark, sides=6)]
    parts.append(cylinder(fork, top, (trunk_m * 0.8, trunk_m * 0.4), bark, sides=5))
    for angle in rng.uniform(0, 2 * np.pi, 2):
        tip = (
            fork[0] + crown_m * 0.6 * np.cos(angle),
            fork[1] + crown_m * 0.6 * np.sin(angle),
            clear_m + crown_m * 0.7,
        )
        parts.append(cylinder(fork, tip, (trunk_m * 0.6, trunk_m * 0.2), bark, sides=4))
    middle = (top[0], top[1], height - 0.9 * crown_m)
    radii = np.array([crown_m, crown_m, crown_m * rng.uniform(0.75, 1.1)])
    parts.append(blob(middle, radii * 0.55, look, rng, 0.18))
    parts.append(leaves(middle, radii, 0.55, int(42 * crown_m), look, rng))
    return labelled(merge(parts), raw("static.vegetation"))


def bush(rng: np.random.Generator, tints: tuple[Tint, ...]) -> Mesh:
    """Leaves to the ground, 0.6 to 1.5 m."""
    radius = rng.uniform(0.4, 0.9)
    look = Look("foliage", tints[rng.integers(len(tints))])
    radii = np.array([radius, radius, radius * 0.8])
    core = blob((0, 0, radius * 0.5), radii * 0.7, look, rng, 0.2)
    return labelled(merge([core, leaves((0, 0, radius * 0.6), radii, 0.3, 30, look, rng)]), raw("static.vegetation"))


@dataclass(frozen=True)
class Greens:
    """Plants a town repeats."""

    trees: tuple[Mesh, ...]
    bushes: tuple[Mesh, ...]


def make_greens(seed: int, tints: tuple[Tint, ...]) -> Greens:
    """Fourteen trees and eight bushes."""
    rng = numpy_rng(seed, "greens")
    return Greens(tuple(tree(rng, tints) for _ in range(14)), tuple(bush(rng, tints) for _ in range(8)))


def pick(plants: tuple[Mesh, ...], rng: np.random.Generator) -> Mesh:
    """One of the plants, a little larger or smaller, lighter or darker."""
    mesh = plants[rng.integers(len(plants))]
    scale, shade = np.float32(rng.uniform(0.85, 1.15)), np.float32(rng.uniform(0.8, 1.2))
    return replace(mesh, triangles=mesh.triangles * scale, tint=mesh.tint * shade)


def hedge(length_m: float, greens: Greens, rng: np.random.Generator) -> Mesh:
    """Row of bushes along x from the origin."""
    plants = greens.bushes[:3]
    return merge([shifted(pick(plants, rng), (x, 0.0, 0.0)) for x in np.arange(0.4, length_m, 0.8)])
