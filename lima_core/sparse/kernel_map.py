"""Kernel maps: which input voxel meets which output voxel under which kernel offset.

Offset order, which is also the order of weights along K, is C order over (x, y, z), z fastest: offset (i, j, k) of a
kernel (n_x, n_y, n_z) is ``weight.view(n_x, n_y, n_z, C_in, C_out)[i, j, k]``, as in ``torch.nn.functional.conv3d``.

- submanifold, odd kernel, r = n // 2: offset i multiplies input voxel v + i - r into output voxel v;
- strided: offset i multiplies input voxel v * stride - padding + i into output voxel v, for every v that any input
  reaches. With kernel = stride and no padding that is floor(input / stride), and every input is in exactly one pair.

Coordinates may be negative. An axis may come round (``wrap``): then its two ends are neighbours, which closes the
+-180 degree seam of a cylindrical grid. A coarser level has ceil(wrap / stride) cells there, the last one perhaps
narrower. Kernels that do not overlap (kernel = stride) never reach over the end.

A level is sorted once by packed key. Of an odd kernel's offsets only the half before the centre is looked up; the
other half is the mirror image, and the centre is the identity. Voxels that differ only in z have consecutive keys, so
one ``torch.searchsorted`` per column (dx, dy) finds all its dz: 5 searches for 27 offsets.
"""

import math
from dataclasses import dataclass, field
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from lima_core.errors import DataError
from lima_core.packing import FIELD_BITS, HALF, MARGIN, delta, pack, unique
from lima_core.sparse.cache import Cache
from lima_core.sparse.workspace import Workspace

Triple = tuple[int, int, int]
"""Something along x, y and z."""
NO_WRAP: Triple = (0, 0, 0)


class ConvShape(NamedTuple):
    """A strided convolution, along x, y, z."""

    kernel: Triple
    stride: Triple
    padding: Triple = (0, 0, 0)


@dataclass
class KernelMap:
    """Pairs (source row, target row), all pairs of offset 0 first, then those of offset 1, and so on.

    Within one offset no source and no target comes twice.
    """

    source: Tensor
    """(M,) int64, rows of the input."""
    target: Tensor
    """(M,) int64, rows of the output."""
    counts: tuple[int, ...]
    """Number of pairs of each offset; the centre's pairs are not listed."""
    num_source: int
    num_target: int
    centre: int | None = None
    """The offset under which every voxel meets itself, or None."""
    other_way: "KernelMap | None" = None
    """The map that this one is the inverse of; engines may share what they derived from it."""
    workspace: Workspace = field(default_factory=Workspace)
    """Scratch memory for engines, shared by all maps of one input."""
    derived: Cache = field(default_factory=Cache)
    """What engines work out from the pairs, kept for every layer and for the backward pass."""

    def inverse(self) -> "KernelMap":
        """The same pairs read the other way; offsets keep their numbers."""
        sides = self.target, self.source, self.counts, self.num_target, self.num_source
        return KernelMap(*sides, self.centre, self, self.workspace)


@dataclass
class SortedKeys:
    """The voxels of one level as sorted packed keys."""

    keys: Tensor
    """(V,) int64, rising."""
    order: Tensor | None
    """(V,) int64: row of the tensor that has each key; None where the rows themselves are sorted."""

    def rows(self, places: Tensor) -> Tensor:
        """Rows of the tensor whose keys are at ``places``."""
        return places if self.order is None else self.order[places]


def sort_keys(coords: Tensor) -> SortedKeys:
    """Sorts the voxels of a level.

    Args:
        coords: (V, 4) integer, columns batch, x, y, z.

    Raises:
        DataError: a voxel that comes twice, or coordinates that cannot be packed.
    """
    keys = pack(coords)
    if bool((keys[1:] > keys[:-1]).all()):
        return SortedKeys(keys, None)
    keys, order = torch.sort(keys)
    twice = keys[1:] == keys[:-1]
    if bool(twice.any()):
        row = order[1:][twice][0]
        raise DataError(f"voxel {coords[row].tolist()} comes twice", where="sparse tensor", remedy="use unique_voxels")
    return SortedKeys(keys, order)


def submanifold_map(level: SortedKeys, kernel: Triple, wrap: Triple = NO_WRAP) -> KernelMap:
    """Map of an odd kernel whose output voxels are its input voxels.

    Raises:
        DataError: a coordinate outside [0, wrap) of an axis that comes round.
    """
    assert all(n % 2 == 1 and n // 2 <= MARGIN for n in kernel), f"kernel {kernel} is not of small odd numbers"
    num_voxels = len(level.keys)
    table = _with_ghosts(level, tuple(n // 2 for n in kernel), wrap)
    found, hit = _find_first_half(level.keys, table.keys, kernel)
    counts = hit.sum(1).tolist()
    pairs = hit.flatten().nonzero()[:, 0]
    source = table.rows(found.flatten()[pairs])
    target = level.rows(pairs % max(num_voxels, 1))
    mirrored_source = torch.cat([source[:0], *reversed(target.split(counts))])
    mirrored_target = torch.cat([target[:0], *reversed(source.split(counts))])
    return KernelMap(
        torch.cat([source, mirrored_source]),
        torch.cat([target, mirrored_target]),
        (*counts, 0, *reversed(counts)),
        num_voxels,
        num_voxels,
        centre=len(counts),
    )


def _find_first_half(keys: Tensor, table: Tensor, kernel: Triple) -> tuple[Tensor, Tensor]:
    """Looks up the neighbours of every voxel at the offsets before the centre.

    Args:
        keys: (V,) int64, rising.
        table: (T,) int64, rising: the keys to be found, ghosts among them.
        kernel: edge lengths, odd.

    Returns:
        Position of each neighbour in ``table`` and whether it is there, both (K // 2, V).
    """
    rx, ry, rz = (n // 2 for n in kernel)
    columns = list(product(range(-rx, rx + 1), range(-ry, ry + 1)))[: kernel[0] * kernel[1] // 2 + 1]
    wanted = keys + keys.new_tensor([delta(dx, dy, -rz) for dx, dy in columns])[:, None]
    ended = torch.cat([table, table.new_full((1,), -1)])
    position = torch.searchsorted(table, wanted)
    found, hits = [], []
    for dz in range(kernel[2]):
        hit = ended[position] == wanted + dz
        found.append(position)
        hits.append(hit)
        position = position + hit
    half = math.prod(kernel) // 2
    return torch.stack(found, 1).flatten(0, 1)[:half], torch.stack(hits, 1).flatten(0, 1)[:half]


def _with_ghosts(level: SortedKeys, reach: Triple, wrap: Triple) -> SortedKeys:
    """The level with copies of its voxels, shifted by whole turns, wherever a neighbour may be looked for."""
    for axis, period in enumerate(wrap):
        if period and reach[axis]:
            level = _with_ghosts_along(level, axis, period, reach[axis])
    return level


def _with_ghosts_along(level: SortedKeys, axis: int, period: int, reach: int) -> SortedKeys:
    shift = FIELD_BITS * (2 - axis)
    place = (level.keys >> shift & (1 << FIELD_BITS) - 1) - HALF
    _check_wrapped(place, axis, period)
    rows = torch.arange(len(place), device=place.device) if level.order is None else level.order
    keys, order = [level.keys], [rows]
    for turns in range(1, (reach - 1) // period + 2):
        beyond = turns * period
        for near, by in ((place < reach + period - beyond, beyond), (place >= beyond - reach, -beyond)):
            keys.append(level.keys[near] + (by << shift))
            order.append(rows[near])
    ordered, by_key = torch.sort(torch.cat(keys))
    return SortedKeys(ordered, torch.cat(order)[by_key])


def _check_wrapped(place: Tensor, axis: int, period: int) -> None:
    if len(place) and bool(((place < 0) | (place >= period)).any()):
        low, high = place.min().item(), place.max().item()
        what = f"cells {low} to {high} along {'xyz'[axis]}, which comes round after {period}"
        raise DataError(what, where="sparse tensor", remedy=f"take them modulo {period}")


def strided_map(coords: Tensor, shape: ConvShape, wrap: Triple = NO_WRAP) -> tuple[Tensor, Triple, KernelMap]:
    """Coarser voxels and the map of a strided convolution to them; its inverse is that of the transposed one.

    Args:
        coords: (V, 4) int32, columns batch, x, y, z.
        shape: kernel, stride, padding.
        wrap: cells after which an axis comes round.

    Returns:
        The coarser coords (V', 4) like ``coords``, sorted by batch, x, y, z; their wrap; the map.

    Raises:
        DataError: coordinates that cannot be packed, or are outside [0, wrap) of an axis that comes round.
    """
    coarse_wrap = tuple(-(-period // stride) for period, stride in zip(wrap, shape.stride, strict=True))
    for axis, period in enumerate(wrap):
        if period:
            _check_wrapped(coords[:, 1 + axis], axis, period)
    if shape.kernel == shape.stride and not any(shape.padding):
        return _partition_map(coords, shape.stride, coarse_wrap)
    rows, reached, counts = _reached(coords, shape, wrap, coarse_wrap)
    _, first, target = unique(pack(reached))
    return reached[first], coarse_wrap, KernelMap(rows, target, counts, len(coords), len(first))


def _partition_map(coords: Tensor, stride: Triple, coarse_wrap: Triple) -> tuple[Tensor, Triple, KernelMap]:
    """Kernels that tile the space: every input voxel has one output voxel."""
    cells, edge = coords[:, 1:], coords.new_tensor(stride)
    coarse_cells = torch.div(cells, edge, rounding_mode="floor")
    coarse = torch.cat([coords[:, :1], coarse_cells], dim=1)
    _, first, parent = unique(pack(coarse))
    offset = ((cells - coarse_cells * edge) * coords.new_tensor([stride[1] * stride[2], stride[2], 1])).sum(1)
    source = torch.sort(offset, stable=True)[1]
    counts = tuple(torch.bincount(offset, minlength=math.prod(stride)).tolist())
    return coarse[first], coarse_wrap, KernelMap(source, parent[source], counts, len(coords), len(first))


def _reached(
    coords: Tensor, shape: ConvShape, wrap: Triple, coarse_wrap: Triple
) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """All pairs of overlapping kernels: rows of inputs (M,), outputs (M, 4), and the number of pairs of each offset."""
    rows, placed = _unrolled(coords, shape, wrap)
    offsets = coords.new_tensor(list(product(*(range(n) for n in shape.kernel))))
    position = placed[None, :, 1:] + coords.new_tensor(shape.padding) - offsets[:, None]
    edge = coords.new_tensor(shape.stride)
    output = torch.div(position, edge, rounding_mode="floor")
    valid = (output * edge == position).all(2)
    for axis, period in enumerate(coarse_wrap):
        if period:
            valid &= (output[..., axis] >= 0) & (output[..., axis] < period)
    pairs = valid.flatten().nonzero()[:, 0]
    at = pairs % max(len(rows), 1)
    reached = torch.cat([placed[at, :1], output.flatten(0, 1)[pairs]], dim=1)
    return rows[at], reached, tuple(valid.sum(1).tolist())


def _unrolled(coords: Tensor, shape: ConvShape, wrap: Triple) -> tuple[Tensor, Tensor]:
    """Voxels with their copies beyond the ends of axes that come round: rows (V + ghosts,) and coords."""
    rows, placed = torch.arange(len(coords), device=coords.device), coords
    for axis, period in enumerate(wrap):
        if not period:
            continue
        kernel, stride, padding = (along[axis] for along in shape)
        if kernel <= stride and not padding:
            continue  # an output of its own for every input: nothing reaches over the end
        place, below, above = placed[:, 1 + axis], padding, kernel - 1 - padding
        parts = [(rows, placed)]
        for turn in range(1, -(-max(below, above, 0) // period) + 1):
            by = turn * period
            for near, shift in ((place - by >= -below, -by), (place + by < period + above, by)):
                moved = placed[near].clone()
                moved[:, 1 + axis] += shift
                parts.append((rows[near], moved))
        rows, placed = (torch.cat(part) for part in zip(*parts, strict=True))
    return rows, placed
