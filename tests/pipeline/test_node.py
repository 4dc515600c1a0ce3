from pathlib import Path
from types import SimpleNamespace

from pipeline.node import Node, Source, topological


def test_the_recipe_is_stage_version_config_and_identities(toys: SimpleNamespace) -> None:
    numbers = toys.numbers(raw=Source(Path("/somewhere"), "d1"))
    assert numbers.recipe == {
        "stage": "make-numbers",
        "version": 1,
        "config": {"scenes": 3, "factor": 2.0, "fail": False},
        "inputs": {"raw": "d1"},
    }
    assert toys.total(numbers).recipe["inputs"] == {"numbers": numbers.fingerprint}


def test_neither_name_nor_place_enters_the_fingerprint(toys: SimpleNamespace) -> None:
    here, there = Source(Path("/here"), "same"), Source(Path("/there"), "same")
    assert toys.numbers("a", raw=here).fingerprint == toys.numbers("b", raw=there).fingerprint
    assert toys.numbers(raw=here).fingerprint != toys.numbers(raw=Source(Path("/here"), "other")).fingerprint


def test_a_change_upstream_changes_what_reads_it(toys: SimpleNamespace) -> None:
    assert toys.total(toys.numbers()).fingerprint != toys.total(toys.numbers(factor=3.0)).fingerprint


def test_the_folder_is_readable_first_and_unique_second(toys: SimpleNamespace) -> None:
    node = toys.numbers()
    assert node.path(Path("work")) == Path(f"work/numbers-{node.fingerprint[:8]}")
    assert node.partial_path(Path("work")).name == f"numbers-{node.fingerprint[:8]}.partial"


def test_order_is_upstream_first_and_each_once(toys: SimpleNamespace) -> None:
    numbers = toys.numbers()
    first, second = toys.total(numbers), toys.total(numbers, start=1.0)
    both = Node("both", toys.add, toys.add.Config(), {"numbers": numbers, "extra": {"a": first, "b": second}})
    assert topological([both, second]) == [numbers, first, second, both]
