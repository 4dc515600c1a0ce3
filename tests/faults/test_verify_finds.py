"""One damage to one file of every kind in every artifact: named by verify, repaired to the same bytes."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lima_core.types import Resources
from pipeline.integrity.repair import Place
from pipeline.integrity.verify import Verified, repair_all, verify
from tests.faults.flow import Flow, one_and_all

FILES = (
    "index/frames.parquet",
    "extract-features/teacher.safetensors",
    "extract-features/basis.zarr/c/0/0",
    "extract-features/basis.zarr/zarr.json",
    "extract-features/features.zarr/zarr.json",
    "extract-features/features.zarr/a/zarr.json",
    "extract-features/features.zarr/a/codes/c/0/0/0/0/0",
    "extract-features/features.zarr/b/codes/zarr.json",
    "extract-features/features.zarr/b/token_scale/c/0/0/0/0",
    "extract-features/features.zarr/b/channel_scale/c/0",
    "extract-features/features.zarr/a/has_image/c/0/0",
    "build-memory/memory.zarr/zarr.json",
    "build-memory/memory.zarr/b/zarr.json",
    "build-memory/memory.zarr/a/frame_start/c/0/0",
    "build-memory/memory.zarr/a/point_target/c/0",
    "build-memory/memory.zarr/a/num_references/c/0",
    "build-memory/memory.zarr/b/view/c/0/0",
    "build-memory/memory.zarr/b/position/c/0/0",
    "distill/backbone/weights.safetensors",
    "distill/backbone/model.json",
    "distill/head/weights.safetensors",
    "distill/curve.parquet",
    "finetune/model/weights.safetensors",
    "finetune/predictions/predictions.json",
    "finetune/predictions/lidarseg/val/a_000005_lidarseg.bin",
    "evaluate/scores.parquet",
    "build-memory/manifest.json",
    "build-memory/checksums.json",
)


def flip_a_bit(path: Path) -> None:
    """In the middle, with the file's times as they were."""
    data, times = bytearray(path.read_bytes()), path.stat()
    data[len(data) // 2] ^= 1 << (len(data) % 8)
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES = {"flipped bit": flip_a_bit, "cut off": cut_off, "missing": Path.unlink}


def look(flow: Flow) -> Verified:
    return verify(flow.nodes(), flow.work, others=False, quick=False, say=lambda line: None)


def mend(flow: Flow) -> None:
    silent = {"wait": False, "say": lambda line: None}
    places = [Place(node, flow.work, Resources(), **silent) for node in flow.nodes()]
    assert repair_all(look(flow), {place.path.name: place for place in places}, lambda line: None) == []


def test_nothing_is_found_where_nothing_is_wrong(finished: Flow) -> None:
    assert look(finished).problems == []


@pytest.mark.parametrize(("file", "damage"), one_and_all(FILES, DAMAGES))
def test_the_damaged_file_is_named_and_no_other(finished: Flow, file: str, damage: str) -> None:
    kind, _, name = file.partition("/")
    artifact = finished.folder(kind)
    DAMAGES[damage](artifact / name)
    problems = look(finished).problems
    assert {problem.artifact for problem in problems} == {artifact.name}
    assert all(problem.file == name or name.startswith(f"{problem.part}/") for problem in problems), problems
    assert all("\n" not in str(problem) for problem in problems)


@pytest.mark.parametrize(("file", "damage"), [(file, list(DAMAGES)[i % 3]) for i, file in enumerate(FILES[::4])])
def test_repair_gives_the_same_bytes(finished: Flow, file: str, damage: str) -> None:
    kind, _, name = file.partition("/")
    DAMAGES[damage](finished.folder(kind) / name)
    mend(finished)
    assert look(finished).problems == []
    finished.assert_nothing_was_lost()


def test_every_artifact_damaged_at_once_is_repaired(finished: Flow) -> None:
    damages: list[Callable[[Path], object]] = list(DAMAGES.values())
    for number, file in enumerate(FILES[:-2]):
        kind, _, name = file.partition("/")
        damages[number % 3](finished.folder(kind) / name)
    mend(finished)
    assert look(finished).problems == []
    finished.assert_nothing_was_lost()
