"""Folders of weights from anywhere: all who read one tell the same line of what is wrong with it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lima_core.errors import CheckpointError
from lima_core.methods.student import load_student
from lima_core.models import load_model
from lima_core.models.pretrained import file_sha256
from lima_core.tasks.start import start_from
from tests.lima_core.models.small_folders import student_folder


def start(path: Path) -> object:
    return start_from("pretrained", path, None, None, bn_momentum=0.02, engine="native", seed=0)


READERS = {"model": load_model, "start": start, "student": load_student}
GONE = object()


@pytest.fixture(params=sorted(READERS))
def reader(request: pytest.FixtureRequest) -> Callable[[Path], object]:
    return READERS[request.param]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    student_folder(tmp_path)
    change(tmp_path / "backbone", window=3, cross_view="mean")
    return tmp_path


def change(part: Path, **fields: object) -> None:
    meta = json.loads((part / "model.json").read_text()) | fields
    (part / "model.json").write_text(json.dumps({name: value for name, value in meta.items() if value is not GONE}))


def told(reader: Callable[[Path], object], folder: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        reader(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)
    return str(error.value)


def test_all_read_what_is_whole(reader: Callable[[Path], object], folder: Path) -> None:
    reader(folder)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"voxels": GONE}, "model.json does not say 'voxels'"),
        ({"voxels": "x"}, 'voxels is "x", not an object'),
        ({"voxels": {"name": "cylindrical", "size_m": -1.0}}, "voxels not known here: cylindrical.size_m -1.0"),
        ({"in_channels": GONE}, "model.json does not say 'in_channels'"),
        ({"in_channels": "4"}, 'in_channels is "4", not a whole number'),
        ({"in_channels": 3}, "takes 3 input channels, not 4"),
        ({"backbone": [1]}, "backbone is [1], not an object"),
        ({"backbone": {"name": "minkunet", "stem": "wide"}}, "not known here: stem 'wide'"),
    ],
)
def test_a_broken_description(fields: dict, line: str, reader: Callable[[Path], object], folder: Path) -> None:
    change(folder / "backbone", **fields)
    assert line in told(reader, folder)


@pytest.mark.parametrize("name", ["method", "teacher"])
@pytest.mark.parametrize("reader", [start, load_student])
def test_what_scores_must_say_is_there(name: str, reader: Callable[[Path], object], folder: Path) -> None:
    change(folder / "backbone", **{name: GONE})
    assert f"model.json does not say {name!r}" in told(reader, folder)
    change(folder / "backbone", **{name: 3})
    assert f"{name} is 3, not a text" in told(reader, folder)


@pytest.mark.parametrize("reader", [load_model, load_student])
def test_a_broken_description_of_a_head(reader: Callable[[Path], object], folder: Path) -> None:
    change(folder / "head", channels=0)
    assert "channels is 0, not a whole number" in told(reader, folder)
    change(folder / "head", head=GONE)
    assert "model.json does not say 'head'" in told(reader, folder)


def test_weights_that_are_not_finite(reader: Callable[[Path], object], folder: Path) -> None:
    file = folder / "backbone" / "weights.safetensors"
    save_file(load_file(file) | {"stem.0.1.norm.bias": torch.full((4,), torch.nan)}, file)
    assert "stem.0.1.norm.bias has 4 values that are not finite" in told(reader, folder)


def test_weights_with_other_bytes_than_were_written(reader: Callable[[Path], object], folder: Path) -> None:
    file = folder / "backbone" / "weights.safetensors"
    change(folder / "backbone", sha256=file_sha256(file))
    reader(folder)
    spoilt = bytearray(file.read_bytes())
    spoilt[-400:-300] = bytes(100)
    file.write_bytes(spoilt)
    assert "weights.safetensors is not the file that model.json was written with" in told(reader, folder)
