"""Blocks of the native engine: every pair once, twins together, bf16 shapes from a short list."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from lima_core.sparse.blocks import rounded_up, schedule
from lima_core.sparse.engine_native import convolve
from lima_core.sparse.kernel_map import KernelMap
from lima_core.sparse.layers import HALVING
from lima_core.sparse.tensor import SparseTensor


def maps(num: int = 300) -> dict[str, KernelMap]:
    rng = torch.Generator().manual_seed(0)
    coords = torch.unique(torch.randint(-5, 5, (num, 4), generator=rng).abs() * torch.tensor([0, 1, 1, 1]), dim=0).int()
    x = SparseTensor(torch.zeros(len(coords), 0), coords)
    return {"submanifold": x.neighbours((3, 3, 3)), "strided": x.coarser(HALVING)[1]}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", maps())
def test_blocks_hold_every_pair_under_its_offset_once(kind: str, dtype: torch.dtype) -> None:
    pairs = maps()[kind]
    plan = schedule(pairs, torch.empty(0, dtype=dtype))
    numbers = torch.arange(len(pairs.counts))
    found = []
    for block in plan.blocks:
        members = numbers[block.offsets].tolist()
        rows = [side.view(len(members), block.rows)[:, : block.used].tolist() for side in (block.source, block.target)]
        found += [(k, s, t) for k, *sides in zip(members, *rows, strict=True) for s, t in zip(*sides, strict=True)]
    offsets = torch.repeat_interleave(numbers, torch.tensor(pairs.counts)).tolist()
    expected = list(zip(offsets, pairs.source.tolist(), pairs.target.tolist(), strict=True))
    if pairs.centre is not None and plan.centre is None:
        expected += [(pairs.centre, row, row) for row in range(pairs.num_target)]
    assert sorted(found) == sorted(expected)


def test_mirrored_offsets_are_one_block_of_two() -> None:
    plan = schedule(maps()["submanifold"], torch.empty(0))
    assert [torch.arange(27)[block.offsets].tolist() for block in plan.blocks] == [[k, 26 - k] for k in range(13)]
    assert plan.centre == 13 and plan.covers_all_offsets


def test_groups_sum_what_belongs_to_each_voxel() -> None:
    for pairs in maps().values():
        for dtype in (torch.float32, torch.bfloat16):
            plan = schedule(pairs, torch.empty(0, dtype=dtype))
            for groups, sides in ((plan.by_target, "target"), (plan.by_source, "source")):
                voxel = torch.cat([getattr(block, sides) for block in plan.blocks])
                owner = torch.repeat_interleave(torch.arange(len(groups.starts) - 1), groups.starts.diff())
                assert torch.equal(voxel[groups.order], owner)
                assert len(groups.order) == sum(len(block.source) // block.rows * block.used for block in plan.blocks)


@pytest.mark.parametrize("octave", range(4, 14))
def test_rounding_up_has_eight_steps_an_octave_and_adds_an_eighth_at_most(octave: int) -> None:
    counts = range((1 << octave) + 1, (2 << octave) + 1)
    rounded = [rounded_up(count) for count in counts]
    assert len(set(rounded)) == 8
    assert all(count <= up <= 1.125 * count for count, up in zip(counts, rounded, strict=True))


def test_small_counts_stay_as_they_are() -> None:
    assert [rounded_up(count) for count in range(1, 17)] == list(range(1, 17))


def test_rows_that_fill_up_a_block_count_nowhere() -> None:
    """bf16 against float64: ones and small integers, so that every product and sum is exact in both."""
    pairs = maps()["submanifold"]
    rng = torch.Generator().manual_seed(1)
    results = []
    for dtype in (torch.float64, torch.bfloat16):
        features = torch.randint(-1, 2, (pairs.num_source, 4), generator=rng.manual_seed(1)).to(dtype).requires_grad_()
        weight = torch.randint(-1, 2, (27, 4, 4), generator=rng.manual_seed(2)).to(dtype).requires_grad_()
        out = convolve(features, weight, pairs)
        results.append([out.detach(), *torch.autograd.grad(out, (features, weight), torch.ones_like(out))])
    for exact, rounded in zip(*results, strict=True):
        assert torch.equal(exact, rounded.double())


def test_one_workspace_serves_all_maps_of_an_input() -> None:
    x = SparseTensor(torch.zeros(1, 0), torch.zeros(1, 4, dtype=torch.int32))
    coarse, down = x.coarser(HALVING)
    spaces = {id(m.workspace) for m in (x.neighbours((3, 3, 3)), down, coarse.finer()[1], coarse.neighbours((3, 3, 3)))}
    assert len(spaces) == 1


def test_a_map_read_the_other_way_has_the_same_blocks_swapped() -> None:
    pairs = maps()["strided"]
    back, anew = (
        schedule(pairs.inverse(), torch.empty(0)),
        schedule(replace(pairs.inverse(), other_way=None), torch.empty(0)),
    )
    for shared, own in ((back.by_target, anew.by_target), (back.by_source, anew.by_source)):
        assert torch.equal(shared.order, own.order) and torch.equal(shared.starts, own.starts)
    assert (back.num_source, back.num_target) == (pairs.num_target, pairs.num_source)


def test_threads_that_share_an_input_have_buffers_of_their_own() -> None:
    pairs = maps()["submanifold"]
    features = torch.randn(pairs.num_source, 16, generator=torch.Generator().manual_seed(0))
    weights = [torch.randn(27, 16, 16, generator=torch.Generator().manual_seed(k)) for k in range(4)]
    expected = [convolve(features, weight, pairs) for weight in weights]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            found = list(pool.map(lambda weight: convolve(features, weight, pairs), weights))
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
