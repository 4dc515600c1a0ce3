"""How the native engine walks through a kernel map: blocks of pairs, each one matrix product.

- An offset of a submanifold convolution and its mirror image are one block of two matrices.
- On a CPU, oneDNN compiles a bf16 product anew for every number of rows it has not seen, which takes one to three
  milliseconds, longer than the product. So there the number of rows is rounded up to one of eight steps per octave;
  the rows that fill up a block are computed and never read.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from lima_core.sparse.kernel_map import KernelMap


@dataclass(frozen=True)
class Block:
    """One product: ``rows`` rows for each of one or two matrices."""

    offsets: slice
    """Which matrices, of the K of a weight."""
    source: Tensor
    """(matrices * rows,) int64 rows of the input."""
    target: Tensor
    """(matrices * rows,) int64 rows of the output."""
    matrices: int
    rows: int
    used: int
    """The first so many rows of every matrix are pairs of the map."""
    start: int
    """Row of the first product in the buffer of all products."""

    @property
    def end(self) -> int:
        """Row behind the last product."""
        return self.start + self.matrices * self.rows


@dataclass(frozen=True)
class Grouping:
    """Products grouped by the voxel they belong to: bag v is order[starts[v]:starts[v + 1]]."""

    order: Tensor
    starts: Tensor


@dataclass(frozen=True)
class Schedule:
    """All blocks of a map, and which products belong to which voxel."""

    blocks: tuple[Block, ...]
    num_products: int
    """Rows of the buffer of all products."""
    largest: int
    """Rows of the largest block."""
    num_source: int
    num_target: int
    centre: int | None
    """The offset of the identity, where its pairs are in no block."""
    covers_all_offsets: bool
    nothing: Tensor
    """(0,) int64 on the device of the map."""
    other_way: "Schedule | None" = None
    """The schedule that this one reads the other way."""

    @cached_property
    def by_target(self) -> Grouping:
        """The used products, grouped by output row."""
        if self.other_way is not None:
            return self.other_way.by_source
        return _grouped(self.blocks, [block.target for block in self.blocks], self.num_target, self.nothing)

    @cached_property
    def by_source(self) -> Grouping:
        """The used products, grouped by input row."""
        if self.other_way is not None:
            return self.other_way.by_target
        return _grouped(self.blocks, [block.source for block in self.blocks], self.num_source, self.nothing)

    def inverse(self) -> "Schedule":
        """The same products with inputs and outputs swapped."""
        swapped = tuple(replace(block, source=block.target, target=block.source) for block in self.blocks)
        sizes = {"num_source": self.num_target, "num_target": self.num_source}
        return replace(self, blocks=swapped, other_way=self, **sizes)


def schedule(pairs: KernelMap, features: Tensor) -> Schedule:
    """The blocks for ``features``, worked out once per map."""
    rounded = features.dtype == torch.bfloat16 and not features.is_cuda
    other = pairs.other_way
    build = (lambda: _schedule(pairs, rounded)) if other is None else (lambda: schedule(other, features).inverse())
    return pairs.derived.get(("schedule", rounded), build)


def _schedule(pairs: KernelMap, rounded: bool) -> Schedule:
    sources, targets = list(pairs.source.split(pairs.counts)), list(pairs.target.split(pairs.counts))
    in_block = rounded and pairs.centre is not None
    if in_block:  # the product with the centre, too, must not have a number of rows of its own
        sources[pairs.centre] = targets[pairs.centre] = torch.arange(pairs.num_target, device=pairs.source.device)
    blocks, start = [], 0
    for offsets, members in _matrices(pairs, in_block):
        count = len(sources[members[0]])
        if count:
            rows = rounded_up(count) if rounded else count
            source, target = (_filled([side[k] for k in members], rows) for side in (sources, targets))
            blocks.append(Block(offsets, source, target, len(members), rows, count, start))
            start = blocks[-1].end
    covered = all(pairs.counts[k] or k == pairs.centre for k in range(len(pairs.counts)))
    centre = None if in_block else pairs.centre
    largest = max((block.end - block.start for block in blocks), default=0)
    sizes = start, largest, pairs.num_source, pairs.num_target
    return Schedule(tuple(blocks), *sizes, centre, covered and pairs.num_target > 0, pairs.source[:0])


def _matrices(pairs: KernelMap, with_centre: bool) -> list[tuple[slice, tuple[int, ...]]]:
    """Offsets that are multiplied together, as a slice of the weight and as numbers."""
    num = len(pairs.counts)
    if pairs.centre is None:
        return [(slice(k, k + 1), (k,)) for k in range(num)]
    twins = [(slice(k, num - k, num - 1 - 2 * k), (k, num - 1 - k)) for k in range(num // 2)]
    return [*twins, (slice(num // 2, num // 2 + 1), (num // 2,))] if with_centre else twins


def _filled(parts: list[Tensor], rows: int) -> Tensor:
    """The parts behind each other, each filled up to ``rows`` with row 0, which exists since a part is not empty."""
    fill = parts[0].new_zeros(rows - len(parts[0]))
    return torch.cat([piece for part in parts for piece in (part, fill)])


def _grouped(blocks: tuple[Block, ...], rows: list[Tensor], num_groups: int, nothing: Tensor) -> Grouping:
    """The used products of all blocks, grouped by the voxel that ``rows`` says for each product."""
    place = torch.cat([nothing, *(_places(block) for block in blocks)])
    voxel = torch.cat([nothing, *rows])[place]
    ends = torch.bincount(voxel, minlength=num_groups).cumsum(0)
    order = torch.sort(voxel.int(), stable=True)[1]  # int32 sorts twice as fast
    return Grouping(place[order], torch.cat([ends.new_zeros(1), ends]))


def _places(block: Block) -> Tensor:
    """Rows of the buffer that hold products of pairs."""
    device = block.source.device
    first = torch.arange(block.start, block.end, block.rows, device=device)
    return (first[:, None] + torch.arange(block.used, device=device)).flatten()


def rounded_up(count: int) -> int:
    """The next of eight steps per octave: ... 16, 18, 20, ... 32, 36, 40, ..."""
    step = 1 << max(0, (count - 1).bit_length() - 4)
    return -(-count // step) * step
