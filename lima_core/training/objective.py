"""What a loss returns: a mean, over how many rows it is one, and further numbers and counts."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import Tensor


class Objective(NamedTuple):
    """The loss of one micro-batch.

    The loop weights every micro-batch of every process by ``count``, so the gradient is that of the mean over the rows
    of the whole batch, however the batch was split.
    """

    value: Tensor
    """Scalar, a mean over ``count`` rows; with no row 0, with a zero gradient."""
    count: int
    """Rows that were taught: points, voxels, samples."""
    numbers: dict[str, float | Tensor]
    """For log and curve, means over the same rows; the same names for every batch. Tensors are scalars and are read
    once a step: a GPU is not waited for."""
    sums: Mapping[str, float | Tensor] = MappingProxyType({})
    """As ``numbers``, but counts of something else: added up over micro-batches and processes, without weights."""


Loss = Callable[[Any], Objective]
"""From a batch on the device to its objective."""
