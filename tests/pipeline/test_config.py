"""Every mistake in a config is one line with path, value and the nearest known word; the lines are checked verbatim."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from lima_core.errors import ConfigError
from lima_core.types import Config
from pipeline.config import load, override


class Dino(Config):
    name: Literal["dinov2"] = "dinov2"
    layers: int = 12


class Filters(Config):
    name: Literal["filterbank"] = "filterbank"
    channels: int = 8


class Run(Config):
    ratio: float = 1.0
    split: Literal["train", "val"] = "train"


class Stage(Config):
    teacher: Annotated[Dino | Filters, Field(discriminator="name")] = Filters()
    size_m: tuple[float, float, float] = (0.1, 0.1, 0.1)
    lr: float = 0.1


class Whole(Config):
    name: str = "x"
    stage: Stage = Stage()
    root: str | None = None
    seeds: tuple[int, ...] = (0,)
    runs: tuple[Run, ...] = (Run(),)
    limit: Stage | None = None


def read(tmp_path: Path, text: str, *overrides: str) -> Whole:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    return load(path, Whole, overrides)


def complaint(tmp_path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text, *overrides)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_lists_fit_tuples_and_exponents_are_numbers(tmp_path: Path) -> None:
    config = read(tmp_path, "stage: {size_m: [1, 2.0, 3e-1], lr: 1e-3}\nseeds: [1, 2]")
    assert config.stage.size_m == (1.0, 2.0, 0.3)
    assert config.stage.lr == 0.001
    assert config.seeds == (1, 2)


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, "") == Whole()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("stag: {}", "x.yaml: stag: unknown key; did you mean 'stage'? known: limit, name, root, runs, seeds, stage"),
        (
            "stage: {teacher: {name: filterbank, chanels: 3}}",
            "x.yaml: stage.teacher.chanels: unknown key; did you mean 'channels'? known: channels, name",
        ),
        (
            "stage: {teacher: {name: dinov9}}",
            "x.yaml: stage.teacher.name: 'dinov9' is not known; did you mean 'dinov2'? known: dinov2, filterbank",
        ),
        (
            "stage: {teacher: {layers: 3}}",
            "x.yaml: stage.teacher.name: missing; it says which member of the family is meant",
        ),
        ("stage: {lr: fast}", 'x.yaml: stage.lr: expected a valid number, got "fast" (text)'),
        ("stage: {lr: .nan}", "x.yaml: stage.lr: expected a finite number, got NaN (a number)"),
        ("seeds: [1, x]", 'x.yaml: seeds.1: expected a valid integer, got "x" (text)'),
        ("seeds: 3", "x.yaml: seeds: expected a valid array, got 3 (a number)"),
        ("root: 3", "x.yaml: root: expected a valid string, got 3 (a number)"),
        (
            "runs: [{split: trian}]",
            "x.yaml: runs.0.split: 'trian' is not known; did you mean 'train'? known: train, val",
        ),
        ("limit: {lrr: 1}", "x.yaml: limit.lrr: unknown key; did you mean 'lr'? known: lr, size_m, teacher"),
        ("stage: {size_m: [1.0, 2.0]}", "x.yaml: stage.size_m.2: missing; this entry is required"),
        ("- 1", "x.yaml: holds a list, not a mapping; write 'key: value' lines"),
        ("root: a\nroot: b", "x.yaml: line 2: 'root' is given twice; remove one"),
        ("root: {{DATA}}", "x.yaml: line 1: a key must be a word; fill in the template, or quote it"),
        ("root: &x [*x]", "x.yaml: line 1: holds itself; write it out"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    assert complaint(tmp_path, text) == line


def test_every_mistake_is_told(tmp_path: Path) -> None:
    lines = complaint(tmp_path, "stage: {lr: fast}\nrot: 1").splitlines()
    assert len(lines) == 2
    assert all(line.startswith("x.yaml: ") for line in lines)


def test_bad_yaml_is_one_line(tmp_path: Path) -> None:
    assert complaint(tmp_path, "a: [1").startswith("x.yaml: not YAML: ")
    assert "\n" not in complaint(tmp_path, "a: [1")


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read \(No such file or directory\)"):
        load(tmp_path / "absent.yaml", Whole)


def test_overrides_reach_defaults_lists_and_unions() -> None:
    config = override(Whole(), ["stage.teacher.channels=4", "runs.0.ratio=0.01", "seeds=[3, 4]", "root=/data"])
    assert config.stage.teacher == Filters(channels=4)
    assert config.runs[0].ratio == 0.01
    assert config.seeds == (3, 4)
    assert config.root == "/data"


def test_a_name_that_is_only_a_name_leaves_the_rest() -> None:
    assert override(Whole(root="/data"), ["name=y"]) == Whole(root="/data", name="y")


def test_another_name_starts_from_that_members_defaults() -> None:
    config = override(Whole(), ["stage.teacher.name=dinov2", "stage.teacher.layers=3"])
    assert config.stage.teacher == Dino(layers=3)


@pytest.mark.parametrize(
    ("assignment", "line"),
    [
        ("stage.lrr=1", "--set: stage.lrr: unknown key; did you mean 'lr'? known: lr, size_m, teacher"),
        ("stge.lr=1", "--set: stge: unknown key; did you mean 'stage'? known: limit, name, root, runs, seeds, stage"),
        ("stage.lr", "--set: 'stage.lr' is not of the form key.key=value"),
        ("runs.3.ratio=1", "--set: runs.3: no such entry; entries are 0 to 0"),
        ("stage.lr.x=1", "--set: stage.lr is a number and has no 'x'"),
        ("stage.lr=fast", '--set: stage.lr: expected a valid number, got "fast" (text)'),
    ],
)
def test_a_wrong_override_is_one_line(assignment: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override(Whole(), [assignment])
    assert str(caught.value) == line
