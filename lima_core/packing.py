"""Four small integers in one int64, so that voxels can be sorted, compared and searched as plain numbers.

Layout, from the top: sign (always 0), batch 9 bits, x 18, y 18, z 18. The order of keys is the order of
(batch, x, y, z), and because every coordinate keeps MARGIN clear of its field's ends, adding ``delta(dx, dy, dz)``
to a key gives the key of the neighbour without a carry into the next field.
"""

import torch
from torch import Tensor

from lima_core.errors import DataError

FIELD_BITS = 18
MAX_BATCH = 1 << 9
HALF = 1 << (FIELD_BITS - 1)
MARGIN = 8
"""The farthest neighbour, per axis, that a key may be moved to."""
LIMIT = HALF - MARGIN
"""Coordinates lie in [-LIMIT, LIMIT): 13 km to each side at 0.1 m."""


def pack(coords: Tensor) -> Tensor:
    """Keys of voxels.

    Args:
        coords: (N, 4) integer, columns batch, x, y, z.

    Returns:
        (N,) int64, at least 0; equal keys are equal rows, and keys sort as rows do.

    Raises:
        DataError: a batch index outside [0, MAX_BATCH) or a coordinate outside [-LIMIT, LIMIT).
    """
    check_range(coords)
    return key_of(coords)


def key_of(coords: Tensor) -> Tensor:
    """As ``pack``, for coordinates that are known to fit: a GPU need not be asked."""
    batch, x, y, z = (coords.long() + coords.new_tensor([0, HALF, HALF, HALF], dtype=torch.int64)).unbind(1)
    return (((batch << FIELD_BITS | x) << FIELD_BITS) | y) << FIELD_BITS | z


def check_range(coords: Tensor) -> None:
    """Refuses rows that a key cannot hold."""
    if len(coords) == 0:
        return
    low, high = (bound.tolist() for bound in torch.aminmax(coords, dim=0))
    if low[0] < 0 or high[0] >= MAX_BATCH:
        raise DataError(f"batch indices {low[0]} to {high[0]} do not fit 0 to {MAX_BATCH - 1}", where="voxels")
    if min(low[1:]) < -LIMIT or max(high[1:]) >= LIMIT:
        raise DataError(
            f"voxel coordinates x y z from {low[1:]} to {high[1:]} do not fit {-LIMIT} to {LIMIT - 1}",
            where="voxels",
            remedy="use larger voxels, or coordinates relative to a nearby origin",
        )


def delta(dx: int, dy: int, dz: int) -> int:
    """What to add to a key to get the key of the voxel (dx, dy, dz) away; each at most MARGIN."""
    return ((dx << FIELD_BITS) + dy << FIELD_BITS) + dz


def unique(keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct keys by one stable sort.

    Args:
        keys: (N,) int64.

    Returns:
        The distinct keys (V,) in rising order, the index of the FIRST row of each (V,), and for each row the position
        of its key among the distinct ones (N,); all int64.
    """
    ordered, order = torch.sort(keys, stable=True)
    starts = torch.ones_like(ordered, dtype=torch.bool)
    torch.ne(ordered[1:], ordered[:-1], out=starts[1:])
    inverse = torch.empty_like(order)
    inverse[order] = torch.cumsum(starts, 0) - 1
    first = starts.nonzero()[:, 0]  # once, not by each mask: a GPU is waited for
    return ordered[first], order[first], inverse
