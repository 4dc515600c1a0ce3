import itertools

import pytest
import torch

from lima_core.errors import DataError
from lima_core.sparse.kernel_map import ConvShape, KernelMap, sort_keys, strided_map, submanifold_map


def cloud(num: int, seed: int = 0) -> torch.Tensor:
    """(V, 4) int32 distinct voxels of two samples around the origin, in random order."""
    rng = torch.Generator().manual_seed(seed)
    rows = torch.cat([torch.randint(0, 2, (num, 1), generator=rng), torch.randint(-5, 5, (num, 3), generator=rng)], 1)
    rows = torch.unique(rows, dim=0)
    return rows[torch.randperm(len(rows), generator=rng)].int()


def listed(pairs: KernelMap) -> list[tuple[int, int, int]]:
    """(offset, source, target) of every pair, sorted."""
    offset = torch.repeat_interleave(torch.arange(len(pairs.counts)), torch.tensor(pairs.counts))
    return sorted(zip(offset.tolist(), pairs.source.tolist(), pairs.target.tolist(), strict=True))


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("num", [0, 1, 2, 200])
def test_submanifold_map_against_brute_force(kernel: int, num: int) -> None:
    coords = cloud(num)
    row_of = {tuple(row): index for index, row in enumerate(coords.tolist())}
    steps = range(-(kernel // 2), kernel // 2 + 1)
    expected = [
        (offset, row_of[(b, x + dx, y + dy, z + dz)], target)
        for offset, (dx, dy, dz) in enumerate(itertools.product(steps, repeat=3))
        for (b, x, y, z), target in row_of.items()
        if (dx, dy, dz) != (0, 0, 0) and (b, x + dx, y + dy, z + dz) in row_of
    ]
    pairs = submanifold_map(sort_keys(coords), (kernel,) * 3)
    assert listed(pairs) == sorted(expected)
    assert pairs.centre == kernel**3 // 2


def test_the_mirrored_half_lists_the_same_pairs_in_the_same_order() -> None:
    pairs = submanifold_map(sort_keys(cloud(200)), (3, 3, 3))
    sources, targets = pairs.source.split(pairs.counts), pairs.target.split(pairs.counts)
    for offset in range(27):
        assert torch.equal(sources[offset], targets[26 - offset])


@pytest.mark.parametrize("num", [0, 1, 200])
def test_down_map_floors_negative_coordinates(num: int) -> None:
    coords = cloud(num)
    coarse, _, pairs = strided_map(coords, ConvShape((2, 2, 2), (2, 2, 2)))
    rows = coords.tolist()
    expected = sorted({(b, x // 2, y // 2, z // 2) for b, x, y, z in rows})
    assert [tuple(row) for row in coarse.tolist()] == expected
    assert coarse.dtype == torch.int32
    assert listed(pairs) == sorted(
        (4 * (x % 2) + 2 * (y % 2) + z % 2, source, expected.index((b, x // 2, y // 2, z // 2)))
        for source, (b, x, y, z) in enumerate(rows)
    )


def test_inverse_swaps_sides() -> None:
    _, _, pairs = strided_map(cloud(50), ConvShape((2, 2, 2), (2, 2, 2)))
    back = pairs.inverse()
    assert (back.num_source, back.num_target) == (pairs.num_target, pairs.num_source)
    assert torch.equal(back.source, pairs.target)
    assert back.other_way is pairs


def test_a_voxel_that_comes_twice_is_refused() -> None:
    with pytest.raises(DataError, match=r"\[0, 1, 2, 3\] comes twice"):
        sort_keys(torch.tensor([[0, 1, 2, 3], [0, 0, 0, 0], [0, 1, 2, 3]], dtype=torch.int32))
