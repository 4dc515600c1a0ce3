from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lima_core.errors import StoreError
from lima_core.stores.ablation import FILE, ArmNumber, read_numbers, write_numbers

NUMBERS = [
    ArmNumber("base", None, "bank", "coverage", 0.8, "world", True),
    ArmNumber("base", 1, "linear_probe", "miou", None, "world", True, "seg", 0.01, "listed", "abc", ""),
]


def test_numbers_come_back_and_the_same_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    write_numbers(first, NUMBERS)
    write_numbers(second, NUMBERS)
    assert read_numbers(first) == NUMBERS
    assert (first / FILE).read_bytes() == (second / FILE).read_bytes()


def test_what_is_no_such_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="build it with: lima ablate"):
        read_numbers(tmp_path)
    write_numbers(tmp_path, NUMBERS)
    table = pq.read_table(tmp_path / FILE).replace_schema_metadata({b"lima_ablation": b"7"})
    pq.write_table(table, tmp_path / FILE)
    with pytest.raises(StoreError, match="schema version 7, this program reads 1"):
        read_numbers(tmp_path)
