import itertools

import pytest
import torch

from lima_core.errors import DataError
from lima_core.packing import LIMIT, MARGIN, MAX_BATCH, delta, pack, unique

EXTREMES = torch.tensor(
    [list(row) for row in itertools.product([0, 1, MAX_BATCH - 1], *[[-LIMIT, -1, 0, 1, LIMIT - 1]] * 3)]
)


def test_keys_are_distinct_and_sort_as_rows_do() -> None:
    shuffled = EXTREMES[torch.randperm(len(EXTREMES), generator=torch.Generator().manual_seed(0))]
    by_key = shuffled[pack(shuffled.int()).argsort()]
    assert by_key.tolist() == sorted(EXTREMES.tolist())
    assert int(pack(EXTREMES).min()) >= 0


@pytest.mark.parametrize("step", [(1, 0, 0), (0, -1, 0), (0, 0, MARGIN), (-MARGIN, MARGIN, -MARGIN)])
def test_delta_leads_to_a_neighbours_key_and_never_into_another_voxel(step: tuple[int, int, int]) -> None:
    moved = EXTREMES + torch.tensor([0, *step])
    inside = ((moved[:, 1:] >= -LIMIT) & (moved[:, 1:] < LIMIT)).all(1)
    reached = pack(EXTREMES) + delta(*step)
    assert torch.equal(reached[inside], pack(moved[inside]))
    assert not torch.isin(reached[~inside], pack(EXTREMES)).any()


@pytest.mark.parametrize("column", [1, 2, 3])
@pytest.mark.parametrize("value", [-LIMIT - 1, LIMIT, 2**31 - 1, -(2**31)])
def test_coordinates_that_do_not_fit_are_refused(column: int, value: int) -> None:
    coords = torch.zeros(2, 4, dtype=torch.int32)
    coords[1, column] = value
    with pytest.raises(DataError, match=str(value)):
        pack(coords)


@pytest.mark.parametrize("batch", [-1, MAX_BATCH])
def test_batch_indices_that_do_not_fit_are_refused(batch: int) -> None:
    with pytest.raises(DataError, match=str(batch)):
        pack(torch.tensor([[batch, 0, 0, 0]], dtype=torch.int32))


def test_unique_reports_first_rows() -> None:
    keys, first, inverse = unique(torch.tensor([7, 3, 7, 9, 3, 3]))
    assert (keys.tolist(), first.tolist(), inverse.tolist()) == ([3, 7, 9], [1, 0, 3], [1, 0, 1, 2, 0, 0])
