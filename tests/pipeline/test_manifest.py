import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lima_core.errors import StoreError
from lima_core.types import Resources
from pipeline import manifest
from pipeline.runner import run


@pytest.fixture
def artifact(tmp_path: Path, toys: SimpleNamespace) -> Path:
    return run([toys.numbers()], tmp_path, Resources())[0]


def edit(artifact: Path, **changes: object) -> None:
    record = json.loads((artifact / manifest.FILE).read_text()) | changes
    (artifact / manifest.FILE).write_text(json.dumps(record))


def test_another_schema_is_refused(artifact: Path) -> None:
    edit(artifact, schema=99)
    with pytest.raises(StoreError, match=r"manifest\.json: schema 99, this version reads 1; remove"):
        manifest.read(artifact)


def test_an_edited_recipe_is_refused(artifact: Path) -> None:
    edit(artifact, recipe={"stage": "other"})
    with pytest.raises(StoreError, match="fingerprint is not that of the recipe"):
        manifest.read(artifact)


def test_unknown_fields_are_refused(artifact: Path) -> None:
    edit(artifact, more=1)
    with pytest.raises(StoreError, match="missing or unknown fields: more"):
        manifest.read(artifact)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00"])
def test_damage_is_refused(artifact: Path, text: str) -> None:
    (artifact / manifest.FILE).write_text(text)
    with pytest.raises(StoreError):
        manifest.read(artifact)


def test_scalars_of_numpy_and_torch_become_numbers() -> None:
    value = {"a": np.float32(0.5), "b": [torch.tensor(2), (np.bool_(True),)], "c": float("nan"), 3: None}
    assert manifest.plain(value, "s") == {"a": 0.5, "b": [2, [True]], "c": None, "3": None}


def test_what_is_no_json_is_a_bug_that_names_the_place() -> None:
    with pytest.raises(TypeError, match=r"s\.a\[0\]: PosixPath is not JSON"):
        manifest.plain({"a": [Path("x")]}, "s")
