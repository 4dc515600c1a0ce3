"""Cones and barriers."""

import numpy as np

from lima_core.synthetic.shapes import Look, about, box, cylinder, frustum
from lima_core.synthetic.vehicles import Model, as_model


def cone(rng: np.random.Generator) -> Model:
    """Traffic cone of about 0.75 m."""
    tall = rng.uniform(0.65, 0.95)
    parts = [box(about(0, 0, 0.44, 0.44), 0.0, 0.05, Look("rubber"))]
    parts.append(
        cylinder((0, 0, 0.05), (0, 0, tall), (0.19, 0.04), Look("cone", tuple(rng.uniform(0.8, 1.1, 3))), sides=8)
    )
    return as_model(parts, "movable_object.trafficcone")


def barrier(rng: np.random.Generator, plastic: bool) -> Model:
    """Two metres of road barrier along x: concrete, or red and white plastic."""
    look = Look("redwhite") if plastic else Look("jersey", tuple(rng.uniform(0.85, 1.1) * np.ones(3)))
    parts = [box(about(0, 0, 2.0, 0.55), 0.0, 0.25, look)]
    parts.append(frustum(about(0, 0, 2.0, 0.40), 0.25, about(0, 0, 2.0, 0.2), rng.uniform(0.85, 1.05), look))
    return as_model(parts, "movable_object.barrier")
