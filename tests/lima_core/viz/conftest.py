"""The artifacts of a tiny drive, built by the real stages, opened as figures read them."""

from dataclasses import replace
from pathlib import Path

import pytest

from lima_core.datasets import dataset_config, open_dataset
from lima_core.methods.student import load_student
from lima_core.stores.feature_store import FeatureStore
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.memory_bank import MemoryBank
from lima_core.training.loop import FitConfig
from lima_core.types import Resources
from lima_core.viz.shown import ShownFrame, Sources
from stages import distill
from tests.stages.small_run import BACKBONE, VOXELS, artifacts


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """Two scenes of six frames; the student was trained for two steps. Read only."""
    root = tmp_path_factory.mktemp("figures")
    built, student = artifacts(root), root / "distill"
    student.mkdir()
    config = distill.Config(backbone=BACKBONE, voxels=VOXELS, fit=FitConfig(steps=2, batch_size=2))
    distill.run(config, distill.Inputs(built.raw, built.index, built.features, built.memory), student, Resources())
    index = FrameIndex.open(built.index)
    return Sources(
        index,
        open_dataset(dataset_config(index.dataset), built.raw),
        FeatureStore.open(built.features),
        MemoryBank.open(built.memory),
        load_student(student),
    )


@pytest.fixture
def shown(sources: Sources) -> ShownFrame:
    """A frame in the middle of a scene."""
    return ShownFrame(sources, sources.index.frames("a")[3])


@pytest.fixture
def synthetic(sources: Sources, tmp_path: Path) -> ShownFrame:
    """The same frame of a data set that says it is synthetic."""
    index = sources.index
    index = FrameIndex.write(tmp_path, index.frames(), replace(index.facts, synthetic=True), index.dataset)
    return ShownFrame(replace(sources, index=index), index.frames("a")[3])
