from pathlib import Path
from types import SimpleNamespace

from lima_core.types import Resources
from pipeline.planning import plan
from pipeline.runner import run


def told(steps: list) -> list[tuple[str, str, str]]:
    return [(step.node.name, step.state, step.reason) for step in steps]


def test_everything_is_new_in_an_empty_folder(tmp_path: Path, toys: SimpleNamespace) -> None:
    steps = plan([toys.total(toys.numbers())], tmp_path / "absent")
    assert told(steps) == [("numbers", "build", "new"), ("total", "build", "new")]


def test_a_changed_field_is_named_and_so_is_what_follows(tmp_path: Path, toys: SimpleNamespace) -> None:
    run([toys.total(toys.numbers())], tmp_path, Resources())
    steps = plan([toys.total(toys.numbers(factor=3.0))], tmp_path)
    assert told(steps) == [
        ("numbers", "build", "config.factor: 2.0 -> 3.0"),
        ("total", "build", "upstream changed: numbers"),
    ]


def test_reasons_are_joined(tmp_path: Path, toys: SimpleNamespace) -> None:
    run([toys.total(toys.numbers())], tmp_path, Resources())
    steps = plan([toys.total(toys.numbers(scenes=4), start=1.0)], tmp_path)
    assert steps[1].reason == "config.start: 0.0 -> 1.0 · upstream changed: numbers"


def test_the_newest_artifact_is_what_reasons_are_told_against(tmp_path: Path, toys: SimpleNamespace) -> None:
    run([toys.numbers()], tmp_path, Resources())
    run([toys.numbers(factor=3.0)], tmp_path, Resources())
    older = toys.numbers().path(tmp_path) / "manifest.json"
    older.write_text(older.read_text().replace('"created": "20', '"created": "19'))
    assert plan([toys.numbers(factor=4.0)], tmp_path)[0].reason == "config.factor: 3.0 -> 4.0"


def test_a_new_stage_version_is_a_reason(tmp_path: Path, toys: SimpleNamespace, monkeypatch: object) -> None:
    run([toys.numbers()], tmp_path, Resources())
    monkeypatch.setattr(toys.make, "VERSION", 2)
    assert plan([toys.numbers()], tmp_path)[0].reason == "version: 1 -> 2"
