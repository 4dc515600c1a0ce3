"""A whole experiment over a tiny folder data set, built in this process in seconds, and what a fault must come to."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lima_core.datasets.folder import FolderConfig, SplitInTime
from lima_core.errors import UserError
from lima_core.geometry.voxels import CartesianGrid
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.storage import Location
from lima_core.training.loop import FitConfig
from lima_core.types import Resources
from pipeline import graph, runner
from pipeline.node import Node
from stages import build_memory, distill, extract_features, finetune, index
from tests.lima_core.datasets.tiny_folder import write_tiny_folder
from tests.small_experiment import data_of

BACKBONE = MinkUNetConfig(
    stem=4, encoder_widths=(4, 8), encoder_blocks=(1, 1), decoder_widths=(8, 6), decoder_blocks=(1, 1)
)
VOXELS = CartesianGrid(size_m=(4.0, 4.0, 4.0))
FIT = FitConfig(steps=2, batch_size=2)


def experiment(raw: Path) -> graph.Experiment:
    """Two sequences of six frames, four to train and one to validate; two steps a training."""
    return graph.Experiment(
        name="faults",
        data_root=str(raw),
        index=index.Config(
            dataset=FolderConfig(split_in_time=SplitInTime(train_first=4, val_last=1)), missing_images="leave_out"
        ),
        extract_features=extract_features.Config(image_size_px=(24, 40), fit_images=4, codec="pca4"),
        build_memory=build_memory.Config(frames=3, voxel_size_m=8.0),
        distill=distill.Config(backbone=BACKBONE, voxels=VOXELS, fit=FIT),
        probe=finetune.Config(augment=None, fit=FIT),
        downstream=(graph.Downstream(probe=True, inits=("pretrained",)),),
    )


class Flow:
    """One work folder over one data set."""

    def __init__(self, raw: Path, work: Location, expected: dict[str, bytes]) -> None:
        self.raw, self.work, self.expected = raw, work, expected

    def nodes(self) -> list[Node]:
        """All nodes; made anew, for their digests depend on what the data set holds now."""
        return graph.build(experiment(self.raw))

    def node(self, kind: str) -> Node:
        """The only node of a stage."""
        (found,) = [node for node in self.nodes() if node.kind == kind]
        return found

    def folder(self, kind: str) -> Path:
        """Its artifact."""
        return self.node(kind).path(self.work)

    def build(self, kind: str = "evaluate", workers: int = 0, say: Callable[[str], None] = lambda line: None) -> None:
        """A stage and what is missing upstream of it."""
        runner.run([self.node(kind)], self.work, Resources(workers=workers), say=say)

    def forget(self, *kinds: str) -> None:
        """Removes artifacts, as if they had not been built yet."""
        for kind in kinds:
            shutil.rmtree(self.folder(kind), ignore_errors=True)

    def fails(self, kind: str = "evaluate", workers: int = 0) -> str:
        """The one line with which building a stage fails; nothing that looks finished may be left of it."""
        with pytest.raises(UserError) as caught:
            self.build(kind, workers)
        return in_one_line(caught.value)

    def assert_nothing_was_lost(self, kind: str = "evaluate") -> None:
        """The same command finishes, and every byte is as it would have been."""
        self.build(kind)
        found, wanted = (
            {name: data for name, data in every.items() if name.partition("/")[0] in built(self.work)}
            for every in (data_of(self.work), self.expected)
        )
        assert found.keys() == wanted.keys()
        assert [name for name in wanted if found[name] != wanted[name]] == []
        assert self.folder(kind).is_dir()


def in_one_line(error: Exception) -> str:
    """What an error says: where, what, and after a semicolon what to do."""
    line = str(error)
    assert "\n" not in line and ": " in line, line
    return line


def built(work: Path) -> set[str]:
    """Names of the artifacts in a work folder."""
    return {path.name for path in work.iterdir() if path.is_dir() and not path.name.startswith(".")}


def one_and_all(files: Sequence[str], damages: Iterable[str]) -> list[Any]:
    """Every file with every damage; all but one for each file only where slow tests run."""
    words = list(damages)
    return [
        pytest.param(file, word, marks=[] if place == number % len(words) else [pytest.mark.slow])
        for number, file in enumerate(files)
        for place, word in enumerate(words)
    ]


@contextmanager
def moved_away(path: Path) -> Iterator[None]:
    """Without the file or folder for a while."""
    away = path.with_name(f"{path.name}.away")
    path.rename(away)
    try:
        yield
    finally:
        away.rename(path)


def build_reference(folder: Path) -> tuple[Path, Path]:
    """Data set and work folder with everything built but the report, which takes seconds."""
    raw, work = folder / "raw", folder / "work"
    raw.mkdir()
    write_tiny_folder(raw)
    Flow(raw, work, {}).build()
    return raw, work
