"""People, and what they ride: front along x, standing on z = 0."""

import numpy as np

from lima_core.synthetic.mesh import Mesh, shifted
from lima_core.synthetic.shapes import Look, about, blob, box, cylinder, wheel
from lima_core.synthetic.vehicles import PAINTS, Model, as_model


def _clothes(rng: np.random.Generator, worker: bool) -> tuple[Look, Look]:
    """Top and trousers."""
    if worker:
        return Look("vest"), Look("denim")
    top = Look(str(rng.choice(["cloth", "striped_cloth"], p=[0.7, 0.3])), tuple(rng.uniform(0.12, 0.95, 3)))
    dark = Look("cloth", tuple(rng.uniform(0.08, 0.5) * np.array([1.0, 0.95, 0.9])))
    return top, Look("denim") if rng.random() < 0.5 else dark


def _upper(rng: np.random.Generator, hip_m: float, tall_m: float, top: Look, lean_m: float, worker: bool) -> list[Mesh]:
    """Torso, arms and head from the hip up, the shoulders ``lean_m`` in front of the hip."""
    skin = Look("skin", tuple(rng.uniform(0.45, 1.1) * np.ones(3)))
    shoulder, neck = tall_m * 0.80, tall_m * 0.86
    parts = [cylinder((0, 0, hip_m - 0.05), (lean_m, 0, shoulder), (0.16, 0.20), top, sides=8, cap=top)]
    reach = 0.12 + lean_m
    for side in (-1, 1):
        elbow = (lean_m + rng.uniform(-0.1, 0.1), side * 0.27, shoulder - 0.32)
        parts.append(cylinder((lean_m, side * 0.22, shoulder - 0.02), elbow, (0.06, 0.05), top, sides=5))
        parts.append(cylinder(elbow, (elbow[0] + reach, side * 0.24, elbow[2] - 0.2), (0.05, 0.04), skin, sides=5))
    parts.append(blob((lean_m, 0, neck + 0.07), (0.105, 0.09, 0.13), skin, rng, 0.02))
    cover = Look("vest") if worker else Look("hair", tuple(rng.uniform(0.6, 2.2) * np.ones(3)))
    return [*parts, blob((lean_m - 0.02, 0, neck + 0.13), (0.11, 0.10, 0.09), cover, rng, 0.02, subdivisions=0)]


def pedestrian(rng: np.random.Generator, category: str) -> Model:
    """Walking figure: adult, child (shorter) or construction worker (vest and helmet)."""
    worker = category.endswith("construction_worker")
    tall = rng.uniform(1.1, 1.4) if category.endswith("child") else rng.uniform(1.58, 1.88)
    top, legs = _clothes(rng, worker)
    hip, stride = tall * 0.5, rng.uniform(0.05, 0.28)
    parts = []
    for side in (-1, 1):
        foot = (side * stride, side * 0.10, 0.06)
        parts.append(cylinder(foot, (0, side * 0.09, hip), (0.07, 0.10), legs, sides=6))
        parts.append(box(about(foot[0] + 0.05, foot[1], 0.25, 0.1), 0.0, 0.08, Look("rubber")))
    return as_model([*parts, *_upper(rng, hip, tall, top, 0.03, worker)], category)


def _rider(rng: np.random.Generator, seat_m: float) -> list[Mesh]:
    top, legs = _clothes(rng, False)
    parts = [shifted(mesh, (-0.15, 0, 0)) for mesh in _upper(rng, seat_m, seat_m + 0.82, top, 0.28, False)]
    for side in (-1, 1):
        knee = (0.22, side * 0.12, seat_m - 0.12)
        parts.append(cylinder((-0.15, side * 0.1, seat_m), knee, (0.10, 0.08), legs, sides=5))
        parts.append(cylinder(knee, (0.08, side * 0.12, seat_m - 0.62), (0.08, 0.06), legs, sides=5))
    return parts


def bicycle(rng: np.random.Generator, ridden: bool) -> Model:
    """Bicycle of tubes and narrow wheels, with or without its rider."""
    frame = Look("machine", tuple(np.asarray(PAINTS[rng.integers(len(PAINTS))])))
    joints = {
        "rear": (-0.52, 0, 0.34),
        "seat": (-0.18, 0, 0.88),
        "crank": (0, 0, 0.3),
        "head": (0.38, 0, 0.9),
        "front": (0.55, 0, 0.34),
    }
    links = (
        ("rear", "seat"),
        ("rear", "crank"),
        ("crank", "seat"),
        ("crank", "head"),
        ("seat", "head"),
        ("head", "front"),
    )
    parts = [cylinder(joints[a], joints[b], (0.035, 0.035), frame, sides=5) for a, b in links]
    parts += [wheel(x, 0, 0.34, 0.05) for x in (-0.52, 0.55)]
    parts += [cylinder((0.36, -0.3, 1.0), (0.36, 0.3, 1.0), (0.03, 0.03), Look("rubber"), sides=4)]
    parts += [box(about(-0.2, 0, 0.26, 0.15), 0.88, 0.95, Look("rubber"))]
    return as_model([*parts, *(_rider(rng, 0.95) if ridden else [])], "vehicle.bicycle")


def motorcycle(rng: np.random.Generator, ridden: bool) -> Model:
    """Motorcycle with tank, engine and fork, with or without its rider."""
    paint = Look("paint", tuple(np.clip(np.asarray(PAINTS[rng.integers(len(PAINTS))]) + 0.05, 0, 1)))
    metal = Look("metal", (0.7, 0.7, 0.72))
    parts = [wheel(x, 0, 0.32, 0.16) for x in (-0.72, 0.74)]
    parts += [box(about(0, 0, 0.75, 0.36), 0.25, 0.68, metal), box(about(0.15, 0, 0.62, 0.34), 0.68, 0.98, paint)]
    parts += [
        box(about(-0.5, 0, 0.8, 0.28), 0.68, 0.84, Look("rubber")),
        box(about(-0.85, 0, 0.35, 0.2), 0.7, 0.95, paint),
    ]
    parts += [cylinder((0.74, s, 0.34), (0.5, s, 1.0), (0.05, 0.05), metal, sides=5) for s in (-0.12, 0.12)]
    parts += [cylinder((0.42, -0.38, 1.08), (0.42, 0.38, 1.08), (0.03, 0.03), Look("rubber"), sides=4)]
    parts += [
        box(about(0.66, 0, 0.14, 0.24), 0.82, 1.02, Look("headlight")),
        box(about(-1.03, 0, 0.05, 0.18), 0.75, 0.88, Look("taillight")),
    ]
    return as_model([*parts, *(_rider(rng, 0.88) if ridden else [])], "vehicle.motorcycle")
