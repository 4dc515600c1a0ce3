"""Artifacts that were damaged after they were finished, met by the stage that reads them."""

import json
from pathlib import Path

import pytest

from tests.faults.flow import Flow, one_and_all

READS = {
    "index/frames.parquet": "extract-features",
    "extract-features/features.zarr/zarr.json": "distill",
    "extract-features/features.zarr/a/zarr.json": "distill",
    "extract-features/features.zarr/a/codes/c/0/0/0/0/0": "distill",
    "extract-features/features.zarr/b/token_scale/c/0/0/0/0": "distill",
    "extract-features/features.zarr/b/has_image/c/0/0": "distill",
    "extract-features/basis.zarr/c/0/0": "distill",
    "build-memory/memory.zarr/zarr.json": "distill",
    "build-memory/memory.zarr/a/frame_start/c/0/0": "distill",
    "build-memory/memory.zarr/a/point_target/c/0": "distill",
    "build-memory/memory.zarr/a/view/c/0/0": "distill",
    "build-memory/memory.zarr/b/zarr.json": "distill",
    "distill/backbone/weights.safetensors": "finetune",
    "distill/backbone/model.json": "finetune",
    "finetune/predictions/predictions.json": "evaluate",
    "finetune/predictions/lidarseg/val/b_000005_lidarseg.bin": "evaluate",
    "finetune/model/model.json": "evaluate",
}
"""A file of every kind by the stage that reads it next."""


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = {"cut off": cut_off, "emptied": emptied, "missing": Path.unlink}


@pytest.mark.parametrize(("file", "damage"), one_and_all(list(READS), DAMAGES))
def test_a_reader_names_the_damaged_file(finished: Flow, file: str, damage: str) -> None:
    kind, _, name = file.partition("/")
    finished.forget(READS[file])
    path = finished.folder(kind) / name
    whole = path.read_bytes()
    DAMAGES[damage](path)
    line = finished.fails(READS[file])
    assert finished.folder(kind).name in line, line
    assert any(part in line for part in (path.name, path.parent.name, "b_000005", "holds no")), line
    assert "; " in line, line
    path.write_bytes(whole)
    finished.assert_nothing_was_lost(READS[file])


@pytest.mark.parametrize("store", ["extract-features/features.zarr", "build-memory/memory.zarr"])
def test_a_scene_that_is_gone_is_named(finished: Flow, store: str) -> None:
    """Without its ``zarr.json`` a scene is not there."""
    kind, _, name = store.partition("/")
    finished.forget("distill")
    path = finished.folder(kind) / name / "b" / "zarr.json"
    whole = path.read_bytes()
    path.unlink()
    line = finished.fails("distill")
    assert "1 of 2 scenes, the first missing is b" in line and finished.folder(kind).name in line
    path.write_bytes(whole)
    finished.assert_nothing_was_lost("distill")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 2}', "\x00" * 300], ids=repr)
def test_a_damaged_manifest_is_named_by_plan_and_run(finished: Flow, text: str) -> None:
    path = finished.folder("build-memory") / "manifest.json"
    whole = path.read_bytes()
    path.write_text(text)
    assert str(path) in finished.fails()
    path.write_bytes(whole)
    finished.assert_nothing_was_lost()


def test_an_edited_manifest_is_not_believed(finished: Flow) -> None:
    path = finished.folder("build-memory") / "manifest.json"
    whole = path.read_bytes()
    record = json.loads(whole)
    record["recipe"]["config"]["frames"] = 5
    path.write_text(json.dumps(record))
    line = finished.fails()
    assert str(path) in line and "fingerprint" in line
    path.write_bytes(whole)
    finished.assert_nothing_was_lost()


def test_a_folder_without_manifest_is_no_artifact(finished: Flow) -> None:
    path = finished.folder("index") / "manifest.json"
    whole = path.read_bytes()
    path.unlink()
    assert finished.folder("index").name in finished.fails()
    path.write_bytes(whole)
    finished.assert_nothing_was_lost()


@pytest.mark.parametrize("kind", ["index", "extract-features", "build-memory", "distill", "finetune"])
def test_what_is_removed_below_a_finished_artifact_is_built_again(finished: Flow, kind: str) -> None:
    finished.forget(kind)
    finished.assert_nothing_was_lost()
    assert finished.folder(kind).is_dir()


@pytest.mark.parametrize("store", ["extract-features/features.zarr", "build-memory/memory.zarr"])
def test_a_store_of_another_version_is_refused(finished: Flow, store: str) -> None:
    kind, _, name = store.partition("/")
    finished.forget("distill")
    path = finished.folder(kind) / name / "zarr.json"
    whole = path.read_text()
    other = json.loads(whole)
    other["attributes"]["schema"] = "lima-other/9"
    path.write_text(json.dumps(other))
    line = finished.fails("distill")
    assert "lima-other/9" in line and f"lima stage {kind}" in line
    path.write_text(whole)
    finished.assert_nothing_was_lost("distill")
