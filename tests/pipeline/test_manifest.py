import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lima_core.errors import StoreError
from lima_core.types import Resources
from pipeline import manifest
from pipeline.integrity import contents
from pipeline.runner import run


@pytest.fixture
def artifact(tmp_path: Path, toys: SimpleNamespace) -> Path:
    return run([toys.numbers()], tmp_path, Resources())[0]


def edit(artifact: Path, **changes: object) -> None:
    record = json.loads((artifact / manifest.FILE).read_text()) | changes
    (artifact / manifest.FILE).write_text(json.dumps(record))


def test_another_schema_is_refused(artifact: Path) -> None:
    edit(artifact, schema=99)
    with pytest.raises(StoreError, match=r"manifest\.json: schema 99, this version reads 2; remove"):
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
    with pytest.raises(StoreError, match="; lima verify CONFIG --repair writes it again; or remove "):
        manifest.read(artifact)
    (artifact / contents.FILE).unlink()
    with pytest.raises(StoreError, match="; remove "):
        manifest.read(artifact)


def test_scalars_of_numpy_and_torch_become_numbers() -> None:
    value = {"a": np.float32(0.5), "b": [torch.tensor(2), (np.bool_(True),)], "c": float("nan"), 3: None}
    assert manifest.plain(value, "s") == {"a": 0.5, "b": [2, [True]], "c": None, "3": None}


def test_what_is_no_json_is_a_bug_that_names_the_place() -> None:
    with pytest.raises(TypeError, match=r"s\.a\[0\]: PosixPath is not JSON"):
        manifest.plain({"a": [Path("x")]}, "s")


def test_a_manifest_without_checksums_is_still_read(artifact: Path) -> None:
    record = json.loads((artifact / manifest.FILE).read_text())
    later = ("num_files", "content", "inputs_content", "crc32c")
    old = {key: value for key, value in record.items() if key not in later} | {"schema": 1}
    (artifact / manifest.FILE).write_text(json.dumps(old))
    found = manifest.read(artifact)
    assert (found.num_files, found.content, found.inputs_content) == (None, None, {})
    assert found.fingerprint == record["fingerprint"]


def test_bytes_and_files_are_those_of_the_list(artifact: Path) -> None:
    record, (listed, copy) = manifest.read(artifact), contents.read(artifact)
    files = [
        path for path in artifact.rglob("*") if path.is_file() and path.name not in ("manifest.json", contents.FILE)
    ]
    assert (record.num_files, record.num_bytes) == (len(files), sum(path.stat().st_size for path in files))
    assert {str(path.relative_to(artifact)) for path in files} == listed.files.keys()
    assert record.content == listed.digest
    assert manifest.Manifest(**copy) == record
