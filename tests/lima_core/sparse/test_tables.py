import pytest
import torch

from lima_core.sparse import tables
from lima_core.sparse.kernel_map import ConvShape, KernelMap, sort_keys, strided_map, submanifold_map


def cloud(num: int) -> torch.Tensor:
    """(V, 4) int32 distinct voxels of one sample, in random order, some at both ends of x, which comes round."""
    rng = torch.Generator().manual_seed(num)
    rows = torch.unique(torch.randint(0, 6, (num, 3), generator=rng), dim=0)
    rows = rows[torch.randperm(len(rows), generator=rng)]
    return torch.cat([torch.zeros(len(rows), 1, dtype=torch.int64), rows], 1).int()


WRAP = (6, 0, 0)
OVERLAPPING = ConvShape((3, 3, 3), (2, 2, 2), (1, 1, 1))
MAPS = {
    "neighbours": submanifold_map(sort_keys(cloud(60)), (3, 3, 3), WRAP),
    "many offsets": submanifold_map(sort_keys(cloud(60)), (5, 3, 3), WRAP),
    "halving": strided_map(cloud(60), ConvShape((2, 2, 2), (2, 2, 2)), WRAP)[2],
    "doubling": strided_map(cloud(60), ConvShape((2, 2, 2), (2, 2, 2)), WRAP)[2].inverse(),
    "overlapping": strided_map(cloud(60), OVERLAPPING, WRAP)[2],
    "one voxel": submanifold_map(sort_keys(cloud(1)), (3, 3, 3)),
    "no voxel": submanifold_map(sort_keys(cloud(1)[:0]), (3, 3, 3)),
}


@pytest.fixture(params=MAPS)
def pairs(request: pytest.FixtureRequest) -> KernelMap:
    return MAPS[request.param]


def listed(pairs: KernelMap) -> list[tuple[int, int, int]]:
    """(offset, source, target) of every pair, the centre's among them."""
    triples, at = [], 0
    for offset, count in enumerate(pairs.counts):
        for row in range(at, at + count):
            triples.append((offset, int(pairs.source[row]), int(pairs.target[row])))
        at += count
    if pairs.centre is not None:
        triples += [(pairs.centre, row, row) for row in range(pairs.num_target)]
    return triples


def test_gather_tables_hold_every_pair_and_nothing_else(pairs: KernelMap) -> None:
    forth = torch.full((len(pairs.counts), pairs.num_target), -1, dtype=torch.int32)
    back = torch.full((len(pairs.counts), pairs.num_source), -1, dtype=torch.int32)
    for offset, source, target in listed(pairs):
        forth[offset, target], back[offset, source] = source, target
    assert torch.equal(tables.by_target(pairs).rows, forth)
    assert torch.equal(tables.by_source(pairs).rows, back)


def test_masks_say_which_offsets_a_voxel_has_and_come_sorted(pairs: KernelMap) -> None:
    for table in (tables.by_target(pairs), tables.by_source(pairs)):
        if len(pairs.counts) > 32:
            assert table.mask.numel() == table.order.numel() == 0
            continue
        present = (table.rows >= 0).T.tolist()
        masks = [sum(1 << offset for offset, there in enumerate(row) if there) for row in present]
        assert sorted(table.order.tolist()) == list(range(len(masks)))
        assert table.mask[:, 0].tolist() == [masks[row] for row in table.order.tolist()] == sorted(masks)


def test_pair_lists_hold_every_pair_an_offset_a_line_and_then_minus_one(pairs: KernelMap) -> None:
    lists = tables.pair_lists(pairs)
    found = [
        (offset, *lists.rows[:, offset, place].tolist())
        for offset, count in enumerate(lists.counts.tolist())
        for place in range(count)
    ]
    assert sorted(found) == sorted(listed(pairs))
    assert int((lists.rows >= 0).sum()) == 2 * len(found)
    assert lists.rows.is_contiguous()


def test_flat_pairs_are_in_the_order_of_offsets_with_the_centre_in_its_place(pairs: KernelMap) -> None:
    flat, counts = tables.flat_pairs(pairs)
    offsets = [offset for offset, count in enumerate(counts) for _ in range(count)]
    assert sorted(zip(offsets, *flat.T.tolist(), strict=True)) == sorted(listed(pairs))


def test_tables_of_an_inverse_map_are_those_of_the_map() -> None:
    pairs = MAPS["halving"]
    assert tables.by_target(pairs.inverse()) is tables.by_source(pairs)
    assert tables.by_source(pairs.inverse()) is tables.by_target(pairs)


def test_all_32_offsets_fit_a_mask() -> None:
    row = torch.zeros(32, dtype=torch.int64)
    table = tables.by_target(KernelMap(row, row, (1,) * 32, num_source=1, num_target=1))
    assert table.mask.tolist() == [[-1]]


def test_a_map_that_adds_nothing_is_empty() -> None:
    assert tables.is_empty(MAPS["no voxel"])
    assert not tables.is_empty(MAPS["one voxel"])
    assert not tables.is_empty(MAPS["halving"])
