"""Kernel maps as the tables that other libraries' kernels read, derived from a map once and kept with it.

A map lists its pairs by offset; the identity of its centre is not listed. Here it is, since a library that is handed
the pairs does not know that the offset in the middle is the centre.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lima_core.sparse.kernel_map import KernelMap

MASK_BITS = 32
"""Offsets that one word of a mask holds."""


@dataclass
class GatherTable:
    """For every voxel of one side, the voxel of the other side that it meets under each offset."""

    rows: Tensor
    """(K, V) int32, -1 where it meets none."""
    mask: Tensor
    """(V, 1) int32 in the order of ``order``, bit k set where ``rows[k]`` is not -1. Empty for over 32 offsets."""
    order: Tensor
    """(V,) int32, voxels by rising mask, so that neighbours in a tile of a kernel share their empty offsets."""


@dataclass
class PairLists:
    """The pairs, an offset a line."""

    rows: Tensor
    """(2, K, longest) int32, source and target rows, each line filled up with -1."""
    counts: Tensor
    """(K,) int32, number of pairs of each offset, the centre's among them."""


def by_target(pairs: KernelMap) -> GatherTable:
    """Sources that each output voxel adds up."""
    if pairs.other_way is not None:
        return by_source(pairs.other_way)
    return pairs.derived.get(("table by target",), lambda: _table(pairs, pairs.target, pairs.source, pairs.num_target))


def by_source(pairs: KernelMap) -> GatherTable:
    """Targets that each input voxel is added to."""
    if pairs.other_way is not None:
        return by_target(pairs.other_way)
    return pairs.derived.get(("table by source",), lambda: _table(pairs, pairs.source, pairs.target, pairs.num_source))


def pair_lists(pairs: KernelMap) -> PairLists:
    """The pairs, an offset a line."""
    return pairs.derived.get(("pair lists",), lambda: _lists(pairs))


def is_empty(pairs: KernelMap) -> bool:
    """Whether nothing is added to anything; other libraries' kernels are not made for that."""
    return pairs.num_source == 0 or pairs.num_target == 0 or (pairs.centre is None and not any(pairs.counts))


def flat_pairs(pairs: KernelMap) -> tuple[Tensor, tuple[int, ...]]:
    """(M + V, 2) int32 source and target rows by offset, the centre's in their place, and the number of each offset."""
    return pairs.derived.get(("flat pairs",), lambda: _flat(pairs))


def _flat(pairs: KernelMap) -> tuple[Tensor, tuple[int, ...]]:
    if pairs.centre is None:
        return torch.stack([pairs.source, pairs.target], 1).int(), pairs.counts
    every = torch.arange(pairs.num_target, device=pairs.source.device)
    columns = []
    for column in (pairs.source, pairs.target):
        blocks = list(column.split(pairs.counts))
        blocks[pairs.centre] = every
        columns.append(torch.cat(blocks))
    counts = list(pairs.counts)
    counts[pairs.centre] = len(every)
    return torch.stack(columns, 1).int(), tuple(counts)


def _table(pairs: KernelMap, at: Tensor, met: Tensor, num_rows: int) -> GatherTable:
    rows = torch.full((len(pairs.counts), num_rows), -1, dtype=torch.int32, device=at.device)
    rows[_offsets(pairs.counts, at.device), at] = met.int()
    if pairs.centre is not None:
        rows[pairs.centre] = torch.arange(num_rows, dtype=torch.int32, device=at.device)
    if len(rows) > MASK_BITS:
        return GatherTable(rows, rows.new_empty(0, 1), rows.new_empty(0))
    bits = torch.arange(len(rows), dtype=torch.int32, device=at.device)
    mask = ((rows >= 0).int() << bits[:, None]).sum(0, dtype=torch.int32)
    ordered, order = torch.sort(mask, stable=True)
    return GatherTable(rows, ordered[:, None].contiguous(), order.int())


def _lists(pairs: KernelMap) -> PairLists:
    flat, counts = flat_pairs(pairs)
    starts = torch.tensor((0, *counts), device=flat.device).cumsum(0)
    offset = _offsets(counts, flat.device)
    place = torch.arange(len(flat), device=flat.device) - starts[offset]
    rows = torch.full((2, len(counts), max(counts)), -1, dtype=torch.int32, device=flat.device)
    rows[:, offset, place] = flat.T
    return PairLists(rows, torch.tensor(counts, dtype=torch.int32, device=flat.device))


def _offsets(counts: tuple[int, ...], device: torch.device) -> Tensor:
    """Offset of every pair, (sum of counts,) int64."""
    repeats = torch.tensor(counts, device=device)
    return torch.repeat_interleave(torch.arange(len(counts), device=device), repeats, output_size=sum(counts))
