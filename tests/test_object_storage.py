"""Real stages on a real S3 server: the bytes of a run on disk, read back right, also where the storage misbehaves."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lima_core import patience
from lima_core.datasets import dataset_config, open_dataset
from lima_core.storage import Location, files_below, location, read_bytes
from lima_core.stores.feature_store import FeatureStore
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.memory_bank import MemoryBank
from lima_core.teachers import FilterbankConfig
from lima_core.types import Resources
from lima_core.whole import copy_to
from pipeline import lease
from pipeline.node import Node, Source
from pipeline.planning import plan
from pipeline.runner import run
from stages import build_memory, extract_features, index
from tests.lima_core.datasets.tiny_folder import NUM_FRAMES, write_tiny_folder
from tests.object_storage import UnsteadyFileSystem
from tests.small_experiment import data_of, lima, write_experiment

SPLITS = ("train", "val", "none")


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> list[Node]:
    """Index, features (with a basis) and bank of two small sequences."""
    raw = write_tiny_folder(tmp_path_factory.mktemp("raw"))
    dataset = dataset_config({"name": "folder"})
    source = Source(raw, open_dataset(dataset, raw).digest())
    features = extract_features.Config(
        teacher=FilterbankConfig(channels=8), image_size_px=(16, 24), fit_images=5, splits=SPLITS, codec="pca4"
    )
    frames = Node("index", index, index.Config(dataset=dataset), {"raw": source})
    data = {"raw": source, "index": frames}
    bank = build_memory.Config(frames=3, voxel_size_m=2.0, splits=SPLITS)
    return [
        Node("extract-features", extract_features, features, data),
        Node("build-memory", build_memory, bank, data),
        frames,
    ]


@pytest.fixture(scope="module")
def on_disk(taught: list[Node], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same, built on a disk."""
    return run(taught, tmp_path_factory.mktemp("disk"), Resources(), say=lambda line: None)


def data(artifact: Location) -> dict[str, bytes]:
    """All files but those that hold times."""
    return {
        name: read_bytes(artifact.joinpath(*name.split("/")))
        for name in files_below(artifact)
        if name not in ("manifest.json", "checksums.json")
    }


def opened(features: Location, bank: Location, frames: Location) -> SimpleNamespace:
    return SimpleNamespace(
        store=FeatureStore.open(features), bank=MemoryBank.open(bank), index=FrameIndex.open(frames).frames()
    )


def require_equal(found: SimpleNamespace, expected: SimpleNamespace) -> None:
    """Every frame of features and bank is the same."""
    assert [frame.token for frame in found.index] == [frame.token for frame in expected.index]
    for scene in expected.store.scenes():
        for start in range(NUM_FRAMES - 1):
            of_two = (each.store.read(scene, start, start + 2).table().numpy() for each in (found, expected))
            np.testing.assert_array_equal(*of_two)
            banks = (vars(each.bank.frame(scene, start)) for each in (found, expected))
            np.testing.assert_equal(*banks)


def test_index_features_and_bank_on_s3_are_those_of_a_disk(
    s3_work: Location, taught: list[Node], on_disk: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RHYTHM", lease.Rhythm(settle_s=0.05))
    there = run(taught, s3_work, Resources(), say=lambda line: None)
    for found, expected in zip(there, on_disk, strict=True):
        assert data(found) == data(expected) != {}
    require_equal(opened(*there), opened(*on_disk))
    assert {step.state for step in plan(taught, s3_work)} == {"cached"}


def test_stores_are_read_right_through_a_storage_that_is_slow_cuts_and_fails(
    on_disk: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = location("unsteady://stores/work")
    for path in on_disk:
        copy_to(path, work / path.name)
    waits: list[float] = []
    monkeypatch.setattr(patience, "sleep", waits.append)
    monkeypatch.setattr(UnsteadyFileSystem, "calls", {})
    monkeypatch.setattr(UnsteadyFileSystem, "delay_s", 0.002)
    monkeypatch.setattr(UnsteadyFileSystem, "cut_bytes", 3)
    monkeypatch.setattr(UnsteadyFileSystem, "cut_every", 5)
    monkeypatch.setattr(
        UnsteadyFileSystem,
        "trouble",
        staticmethod(lambda name, number: ConnectionResetError("reset") if number % 4 == 0 else None),
    )
    require_equal(opened(*(work / path.name for path in on_disk)), opened(*on_disk))
    failed = UnsteadyFileSystem.calls["read"] // 4
    assert len(waits) >= failed > 20


@pytest.mark.slow
def test_a_whole_experiment_on_s3_is_that_on_a_disk(s3_work: Location, tmp_path: Path) -> None:
    config = write_experiment(tmp_path)
    for work in (tmp_path / "disk", s3_work):
        done = lima("run", config, "--work", work, "--workers", "2")
        assert done.returncode == 0, done.stderr
    expected = {name: data for name, data in data_of(tmp_path / "disk").items() if not name.startswith(".locks")}
    names = {name for name in files_below(s3_work) if name in expected}
    assert names == set(expected)
    assert [name for name in expected if read_bytes(s3_work.joinpath(*name.split("/"))) != expected[name]] == []
    again = lima("run", config, "--work", s3_work)
    assert again.returncode == 0 and "started" not in again.stdout and "fetching" not in again.stdout
    for words in (("show", "build-memory"), ("viz", "coverage", config)):
        done = lima(*words, "--work", s3_work)
        assert done.returncode == 0, done.stderr
    student = next(name.split("/")[0] for name in expected if name.startswith("distill"))
    done = lima("export", student, tmp_path / "exported", "--work", s3_work)
    assert done.returncode == 0 and (tmp_path / "exported" / "backbone" / "model.json").is_file(), done.stderr
