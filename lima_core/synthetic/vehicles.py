"""Vehicles as a few solids each: front along x, standing on z = 0."""

from dataclasses import dataclass

import numpy as np

from lima_core.synthetic.categories import raw
from lima_core.synthetic.mesh import Mesh, labelled, merge, shifted
from lima_core.synthetic.shapes import Look, about, box, cylinder, frustum, wheel

PAINTS = (
    (0.92, 0.92, 0.92), (0.75, 0.76, 0.78), (0.10, 0.10, 0.11), (0.38, 0.39, 0.41), (0.62, 0.10, 0.10),
    (0.12, 0.22, 0.48), (0.16, 0.34, 0.26), (0.66, 0.58, 0.46), (0.30, 0.42, 0.60), (0.82, 0.60, 0.16),
)  # fmt: skip
GLASS, RUBBER = Look("glass"), Look("rubber")


@dataclass(frozen=True)
class Model:
    """An actor at rest: its mesh fills its box exactly, the box's bottom centre is the origin."""

    mesh: Mesh
    raw_class: int
    size_m: tuple[float, float, float]
    """Length, width, height."""


def as_model(parts: list[Mesh], category: str) -> Model:
    """Labels the parts and centres them on their bounding box."""
    mesh = labelled(merge(parts), raw(category))
    low, high = mesh.triangles.reshape(-1, 3).min(0), mesh.triangles.reshape(-1, 3).max(0)
    centre = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    return Model(shifted(mesh, -centre), raw(category), tuple(float(v) for v in high - low))


def _paint(rng: np.random.Generator) -> Look:
    tint = np.asarray(PAINTS[rng.integers(len(PAINTS))]) * rng.uniform(0.85, 1.08) + rng.uniform(-0.03, 0.03, 3)
    return Look("paint", tuple(np.clip(tint, 0.04, 1.0)))


def _lights(length_m: float, width_m: float, z_m: float) -> list[Mesh]:
    """Lamps and plates at both ends."""
    front, back, side = length_m / 2, -length_m / 2, width_m / 2 - 0.22
    parts = [box(about(front, s, 0.06, 0.36), z_m, z_m + 0.17, Look("headlight")) for s in (-side, side)]
    parts += [box(about(back, s, 0.06, 0.30), z_m + 0.05, z_m + 0.25, Look("taillight")) for s in (-side, side)]
    return [*parts, box(about(back, 0, 0.05, 0.5), z_m - 0.1, z_m + 0.02, Look("plate"))]


def _wheels(xs_m: tuple[float, ...], width_m: float, radius_m: float) -> list[Mesh]:
    return [wheel(x, side * (width_m / 2 - 0.11), radius_m, 0.22) for x in xs_m for side in (-1, 1)]


def car(rng: np.random.Generator) -> Model:
    """Hatchback, saloon or off-roader, 3.8 to 4.9 m."""
    length, width, tall = rng.uniform(3.8, 4.9), rng.uniform(1.7, 1.95), rng.uniform(1.40, 1.75)
    paint, waist, half = _paint(rng), 0.52 * tall + 0.08, length / 2
    low, high = about(0, 0, length, width), about(0, 0, length - 0.15, width - 0.06)
    parts = [frustum(low, 0.22, low, 0.55, paint), frustum(low, 0.55, high, waist, paint)]
    back = rng.choice([0.05, 0.7])
    foot = (-half + 0.12 + back, -width / 2 + 0.05, half * 0.52, width / 2 - 0.05)
    top = (foot[0] + 0.35 + 0.3 * back, foot[1] + 0.14, foot[2] - 0.62, foot[3] - 0.14)
    parts += [frustum(foot, waist, top, tall - 0.05, GLASS, paint)]
    parts += [box(top, tall - 0.05, tall, paint), *_lights(length, width, 0.6)]
    parts += _wheels((half * 0.62, -half * 0.62), width, rng.uniform(0.31, 0.36))
    return as_model(parts, "vehicle.car")


def truck(rng: np.random.Generator) -> Model:
    """Cab and box body or flatbed, 6 to 9 m."""
    length, width, tall = rng.uniform(6.0, 9.0), rng.uniform(2.2, 2.5), rng.uniform(2.8, 3.5)
    cab_m, paint, half = rng.uniform(1.7, 2.1), _paint(rng), length / 2
    cab = (half - cab_m, -width / 2, half, width / 2)
    windscreen = (cab[0] + 0.3, cab[1] + 0.08, cab[2] - 0.18, cab[3] - 0.08)
    parts = [
        box(cab, 0.45, 1.45, paint),
        frustum(cab, 1.45, windscreen, 2.2, GLASS, paint),
        box(windscreen, 2.2, 2.4, paint),
    ]
    load = (-half, -width / 2, half - cab_m - 0.15, width / 2)
    body = Look(
        str(rng.choice(["cargo", "container", "planks"], p=[0.6, 0.25, 0.15])), tuple(rng.uniform(0.35, 1.0, 3))
    )
    parts += [
        box(load, 0.85, 1.6 if body.material == "planks" else tall, body),
        box((-half, -0.5, half - 0.3, 0.5), 0.5, 0.85, RUBBER),
    ]
    parts += [*_lights(length, width, 0.62), *_wheels((half - 1.1, -half * 0.35, -half * 0.62), width, 0.46)]
    return as_model(parts, "vehicle.truck")


def bus(rng: np.random.Generator) -> Model:
    """City bus, 10 to 12.5 m."""
    length, width, tall = rng.uniform(10.0, 12.5), 2.55, rng.uniform(3.0, 3.3)
    tint = tuple(np.clip(np.asarray(PAINTS[rng.integers(4, len(PAINTS))]) * rng.uniform(1.0, 1.4), 0, 1))
    half = length / 2
    parts = [box(about(0, 0, length, width), 0.3, tall - 0.1, Look("bus_side", tint), Look("paint", tint))]
    parts.append(
        box(about(-1.0, 0, length * 0.5, width * 0.7), tall - 0.1, tall + 0.12, Look("paint", (0.85, 0.85, 0.85)))
    )
    parts.append(box((half - 0.1, -width / 2 + 0.12, half + 0.03, width / 2 - 0.12), 1.15, 2.6, GLASS))
    parts.append(box((half - 0.1, -0.8, half + 0.05, 0.8), 2.65, 2.9, Look("headlight", tint)))
    parts += [*_lights(length, width, 0.6), *_wheels((half - 2.4, -half + 3.0), width + 0.02, 0.48)]
    return as_model(parts, "vehicle.bus.rigid")


def trailer(rng: np.random.Generator) -> Model:
    """Box or flat trailer without its tractor, 6 to 10 m, on legs."""
    length, width, half = rng.uniform(6.0, 10.0), 2.45, 0.0
    half = length / 2
    look = Look("container", tuple(np.asarray(PAINTS[rng.integers(len(PAINTS))]) * 0.8 + 0.2))
    tall = rng.uniform(2.9, 3.6)
    parts = [box(about(0, 0, length, width), 1.05, tall, look), box(about(0, 0, length, 0.9), 0.85, 1.05, RUBBER)]
    parts += [box(about(half * 0.55, side * 0.7, 0.15, 0.15), 0.0, 0.95, Look("metal")) for side in (-1, 1)]
    parts += [box(about(-half - 0.02, 0, 0.05, width), 0.75, 1.0, Look("warning"))]
    return as_model([*parts, *_wheels((-half + 0.8, -half + 1.9, -half + 3.0), width, 0.46)], "vehicle.trailer")


def excavator(rng: np.random.Generator) -> Model:
    """Excavator on tracks, arm folded in front."""
    yellow = Look("machine", tuple(np.array([0.95, 0.72, 0.10]) * rng.uniform(0.85, 1.05)))
    parts = [box(about(0, side * 0.95, 3.0, 0.55), 0.0, 0.85, RUBBER) for side in (-1, 1)]
    parts += [box(about(0, 0, 1.8, 1.5), 0.5, 0.95, RUBBER), box(about(-0.5, 0, 2.7, 2.3), 0.95, 1.7, yellow)]
    parts += [
        box(about(-1.5, 0, 0.7, 2.2), 1.7, 2.1, Look("warning")),
        box(about(0.3, 0.6, 1.3, 1.0), 1.7, 2.75, GLASS, yellow),
    ]
    reach = rng.uniform(2.6, 3.4)
    parts.append(cylinder((0.6, -0.3, 1.5), (reach, -0.3, 3.3), (0.28, 0.2), yellow, sides=4))
    parts.append(cylinder((reach, -0.3, 3.3), (reach + 0.6, -0.3, 1.1), (0.2, 0.14), yellow, sides=4))
    parts.append(box(about(reach + 0.5, -0.3, 0.8, 0.9), 0.4, 1.1, Look("metal", (0.5, 0.5, 0.5))))
    return as_model(parts, "vehicle.construction")


def loader(rng: np.random.Generator) -> Model:
    """Wheel loader with a bucket."""
    tint = np.array([[0.95, 0.72, 0.10], [0.90, 0.45, 0.10]])[rng.integers(2)] * rng.uniform(0.85, 1.05)
    yellow = Look("machine", tuple(tint))
    parts = [box(about(-1.2, 0, 2.2, 1.7), 0.8, 1.9, yellow), box(about(0.7, 0, 1.8, 1.0), 0.8, 1.4, yellow)]
    parts += [
        box(about(-0.3, 0, 1.2, 1.4), 1.4, 3.0, GLASS, yellow),
        box(about(-2.3, 0, 0.1, 1.7), 0.9, 1.5, Look("warning")),
    ]
    parts += [cylinder((0.9, s, 1.5), (2.5, s, 0.7), (0.16, 0.14), yellow, sides=4) for s in (-0.45, 0.45)]
    parts.append(frustum(about(2.8, 0, 0.5, 2.4), 0.25, about(2.9, 0, 1.0, 2.4), 1.1, Look("metal", (0.6, 0.6, 0.6))))
    return as_model([*parts, *_wheels((1.1, -1.4), 2.2, 0.7)], "vehicle.construction")


def construction(rng: np.random.Generator) -> Model:
    """Excavator or wheel loader."""
    return (excavator, loader)[int(rng.integers(2))](rng)
