"""Results keep their order, in this process and in others, and an error of a part comes through as itself."""

import os
from functools import partial

import pytest

from lima_core.errors import DataError
from lima_core.parallel import map_parts


def squared(part: int) -> tuple[int, int]:
    return part**2, os.getpid()


def broken(at: int, part: int) -> int:
    if part == at:
        raise DataError("nothing in it", where=f"part {part}", remedy="leave it out")
    return part


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_the_order_of_the_parts(workers: int) -> None:
    results = map_parts(squared, [3, 1, 4, 1, 5], workers, "test")
    assert [value for value, _ in results] == [9, 1, 16, 1, 25]
    own = {pid == os.getpid() for _, pid in results}
    assert own == {workers == 0}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_users_error_comes_through_in_one_line(workers: int) -> None:
    with pytest.raises(DataError, match=r"^part 2: nothing in it; leave it out$"):
        map_parts(partial(broken, 2), [1, 2, 3], workers, "test")


def test_progress_is_one_greppable_line_a_part(capsys: pytest.CaptureFixture[str]) -> None:
    map_parts(squared, [1, 2], 0, "squares", "numbers")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" elapsed=")[0] for line in lines] == ["squares 1/2 numbers", "squares 2/2 numbers"]
    assert all("eta=" in line for line in lines)
