"""The map of a town: parallel roads both ways, the blocks between them, and what each block is.

Plan frame: x and y along the roads, metres, the origin in one corner; ``Plan.global_from_plan`` turns it into the
frame that is written to disk, so streets of a written world are not aligned with its axes.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lima_core.seeds import numpy_rng
from lima_core.synthetic.shapes import Rect

MARGIN_M = 70.0
"""Country around the outermost roads."""
SIDEWALK_M = 3.0
KERB_M = 0.15
CROSSWALK_M = 3.0

BlockKind = Literal["buildings", "park", "plaza"]


@dataclass(frozen=True)
class Road:
    """A straight road through the whole town; traffic keeps right."""

    axis: Literal["x", "y"]
    """The axis it runs along."""
    centre_m: float
    """Its middle on the other axis."""
    avenue: bool

    @property
    def half_m(self) -> float:
        """Half the carriageway."""
        return 9.0 if self.avenue else 6.0

    @property
    def lanes_m(self) -> tuple[float, ...]:
        """Distances of lane middles from the road's middle, the inner one first."""
        return (2.8, 6.3) if self.avenue else (1.9,)

    @property
    def parking_m(self) -> float | None:
        """Distance of the parking strip's middle from the road's middle."""
        return None if self.avenue else 4.85


@dataclass(frozen=True)
class Block:
    """Land between roads, or between the outermost roads and the end of town; its sidewalk included."""

    rect: Rect
    kind: BlockKind
    setback: Literal["grass", "forecourt", "none"]
    verge: bool
    """Whether grass and trees stand between sidewalk and kerb."""


@dataclass(frozen=True)
class Plan:
    """A town's map."""

    size_m: tuple[float, float]
    roads: tuple[Road, ...]
    blocks: tuple[Block, ...]
    global_from_plan: np.ndarray
    """(4, 4) float64, metres."""


def make_plan(seed: int, num_streets: int) -> Plan:
    """Town of ``num_streets`` roads each way; the same seed gives the same town."""
    rng = numpy_rng(seed, "plan")
    tracks = [MARGIN_M + np.cumsum([0, *rng.uniform(62, 98, num_streets - 1)]) for _ in "xy"]
    avenues = [np.arange(num_streets) % 3 == rng.integers(0, 3) for _ in "xy"]
    roads = [Road("y", float(c), bool(a)) for c, a in zip(tracks[0], avenues[0], strict=True)]
    roads += [Road("x", float(c), bool(a)) for c, a in zip(tracks[1], avenues[1], strict=True)]
    size = float(tracks[0][-1] + MARGIN_M), float(tracks[1][-1] + MARGIN_M)
    return Plan(size, tuple(roads), _blocks(roads, size, rng), _global_from_plan(rng, size))


def across(plan: Plan, axis: str) -> list[Road]:
    """Roads that cross a road along ``axis``, by position."""
    return sorted((r for r in plan.roads if r.axis != axis), key=lambda r: r.centre_m)


def segments(plan: Plan, road: Road) -> list[tuple[float, float]]:
    """Stretches of a road between crossings (start, stop along it), the ends of town included."""
    return _gaps(across(plan, road.axis), plan.size_m[0 if road.axis == "x" else 1])


def inside(rect: Rect, by_m: float) -> Rect:
    """The rectangle without a border."""
    return (rect[0] + by_m, rect[1] + by_m, rect[2] - by_m, rect[3] - by_m)


def border(rect: Rect, by_m: float) -> list[Rect]:
    """The four strips that ``inside`` leaves out."""
    x0, y0, x1, y1 = rect
    return [
        (x0, y0, x1, y0 + by_m), (x0, y1 - by_m, x1, y1),
        (x0, y0 + by_m, x0 + by_m, y1 - by_m), (x1 - by_m, y0 + by_m, x1, y1 - by_m),
    ]  # fmt: skip


def _blocks(roads: list[Road], size: tuple[float, float], rng: np.random.Generator) -> tuple[Block, ...]:
    xs, ys = (_gaps([r for r in roads if r.axis == axis], end) for axis, end in zip("yx", size, strict=True))
    kinds = np.array(["buildings"] * 7 + ["park", "plaza"])[rng.permutation(9)]
    rects = [(a, c, b, d) for a, b in xs for c, d in ys]
    return tuple(_block(rect, str(kinds[i % 9]), rng) for i, rect in enumerate(rects))


def _gaps(roads: list[Road], end_m: float) -> list[tuple[float, float]]:
    """Land between parallel roads, from one end of town to the other."""
    starts = [0.0, *(r.centre_m + r.half_m for r in roads)]
    return list(zip(starts, [*(r.centre_m - r.half_m for r in roads), end_m], strict=True))


def _block(rect: Rect, kind: BlockKind, rng: np.random.Generator) -> Block:
    setback = str(rng.choice(["grass", "forecourt", "none"], p=[0.45, 0.40, 0.15]))
    return Block(rect, kind, setback, bool(rng.random() < 0.6))


def _global_from_plan(rng: np.random.Generator, size: tuple[float, float]) -> np.ndarray:
    """Turn by 10 to 35 degrees, then a shift that keeps the whole town at positive coordinates."""
    angle = np.deg2rad(rng.uniform(10, 35))
    out = np.eye(4)
    out[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    out[:2, 3] = [size[1] * np.sin(angle) + rng.uniform(5, 40), rng.uniform(5, 40)]
    return out
