"""The order of an epoch is a function of seed and epoch, the same for every process, and in blocks it stays local."""

from itertools import pairwise

import numpy as np
import pytest

from lima_core.seeds import numpy_rng
from lima_core.training.plan import own_parts, plan_of, run_lengths
from lima_core.training.shuffle import ShuffleBlocks, block_order

RUNS = (40, 7, 41, 40, 1, 31)


def test_runs_are_counted() -> None:
    assert run_lengths(["a", "a", "b", "a"]) == [2, 1, 1]
    assert run_lengths([]) == []


@pytest.mark.parametrize("blocks", [None, ShuffleBlocks(frames=8, mixed=4), ShuffleBlocks(frames=1, mixed=1)])
def test_an_epoch_is_a_permutation_drawn_from_seed_and_epoch(blocks: ShuffleBlocks | None) -> None:
    orders = [
        plan_of(160, 4, 3, None, seed, blocks, RUNS).order(epoch).tolist() for seed in (0, 1) for epoch in (0, 1, 2)
    ]
    assert all(sorted(order) == list(range(160)) for order in orders)
    assert len({tuple(order) for order in orders}) == len(orders)
    again = plan_of(160, 4, 3, None, 1, blocks, list(RUNS)).order(2)
    assert again.tolist() == orders[-1]


@pytest.mark.parametrize("blocks", [None, ShuffleBlocks(frames=8, mixed=4)])
@pytest.mark.parametrize(("size", "accumulate"), [(1, 1), (2, 1), (3, 2), (4, 1)])
def test_processes_share_every_batch_without_asking_each_other(
    blocks: ShuffleBlocks | None, size: int, accumulate: int
) -> None:
    plans = [plan_of(160, 12, 2, None, 3, blocks, RUNS) for _ in range(size)]
    for step in range(plans[0].steps):
        indices = plans[0].batch_indices(step)[1]
        shares = [own_parts(plan.batch_indices(step)[1], accumulate, rank, size) for rank, plan in enumerate(plans)]
        assert sorted(i for share in shares for part in share for i in part) == sorted(indices)
        assert all(len(share) == accumulate and all(share) for share in shares)


def test_blocks_are_consecutive_frames_of_one_scene() -> None:
    order = plan_of(160, 4, 1, None, 0, ShuffleBlocks(frames=8, mixed=1), RUNS).order(0)
    scene = np.repeat(np.arange(len(RUNS)), RUNS)
    groups, first = [], 0
    for place, (before, after) in enumerate(pairwise(order), start=1):
        if scene[before] != scene[after] or abs(int(after) - int(before)) >= 8:
            groups.append(order[first:place])
            first = place
    # Neighbouring blocks may follow each other by chance; what is between two far jumps is a run of whole blocks.
    for group in groups:
        assert len(set(scene[group])) == 1
        assert np.ptp(group) == len(group) - 1


def test_no_more_than_the_mixed_blocks_are_under_way() -> None:
    blocks = ShuffleBlocks(frames=10, mixed=3)
    runs = (50,) * 40
    order = plan_of(2000, 4, 1, None, 0, blocks, runs).order(0)
    spans = [len(set((window // 50).tolist())) for window in np.array_split(order, 2000 // 25)]
    assert max(spans) <= 6  # a window of 25 samples lies in at most two groups of three blocks
    free = plan_of(2000, 4, 1, None, 0).order(0)
    assert min(len(set((window // 50).tolist())) for window in np.array_split(free, 2000 // 25)) > 10


def test_a_mixture_is_of_whole_blocks_and_rising() -> None:
    blocks = ShuffleBlocks(frames=8, mixed=3)
    plan = plan_of(160, 4, 1, None, 5, blocks, RUNS)
    for epoch in range(3):
        mixture = block_order(RUNS, blocks, numpy_rng(5, "order", epoch))[1]
        for sample in range(160):
            np.testing.assert_array_equal(plan.mixture(epoch, sample), np.nonzero(mixture == mixture[sample])[0])


def test_where_blocks_begin_differs_from_epoch_to_epoch() -> None:
    plan = plan_of(100, 4, 2, None, 0, ShuffleBlocks(frames=10, mixed=1), (100,))
    firsts = [min(plan.order(epoch)[:10]) for epoch in range(20)]
    assert len({first % 10 for first in firsts}) > 3


def test_an_order_cannot_be_changed_by_who_asked_for_it() -> None:
    with pytest.raises(ValueError, match="read-only"):
        plan_of(10, 2, 1, None, 0).order(0)[0] = 3
