"""Upper bounds on a scan, so that an odd one does not decide how much memory a training needs.

Only trainings have them, predictions never: there every point gets a class. What is left out depends on
(seed, epoch, index) alone, and how much it was is in the curve (``dropped_points``).
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from lima_core.types import Config

Bound = Annotated[int, Field(ge=1)] | None


class LimitsConfig(Config):
    """The most that a scan (after mixing, where scans are mixed) may bring; null: no bound."""

    max_points: Bound = None
    keep: Literal["random", "nearest"] = "random"
    """Which ``max_points`` stay: any, or those nearest to a point drawn at random, as in ScaLR (there 20 000)."""
    max_voxels: Bound = None
    """A random choice of occupied voxels stays, each with all its points."""


def kept_points(xyz: np.ndarray, config: LimitsConfig, rng: np.random.Generator) -> np.ndarray | slice:
    """Rows of the points that stay: (max_points,) int64 rising, or all.

    Args:
        xyz: (N, 3) metres.
        config: the bound.
        rng: draws them.
    """
    most = config.max_points
    if most is None or len(xyz) <= most:
        return slice(None)
    if config.keep == "random":
        return np.sort(rng.choice(len(xyz), most, replace=False, shuffle=False))
    distance = np.square(xyz - xyz[rng.integers(len(xyz))]).sum(1)
    return np.sort(np.argpartition(distance, most - 1)[:most])


def dropped_points(dropped: Tensor | int | None) -> dict[str, Tensor | float]:
    """A sum for the curve (``Objective.sums``): points left out of a batch; nothing where there is no bound."""
    return {} if dropped is None else {"dropped_points": dropped}
