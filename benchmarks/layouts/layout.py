"""What a layout is, and how one is read that holds arrays of rows."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.layouts.data import PATCHES, WINDOW, DataSet, Sample, Scene
from lima_core.stores.memory_bank import COLUMNS

Rows = Callable[[int, int], np.ndarray]
"""Rows start..stop-1 of an array, in memory of their own."""
Read = Callable[[int, int], Any]
"""What a reader makes of the window that ends with a frame of a scene; ``Layout.arrays`` has the sample in it."""


@dataclass(frozen=True)
class Layout:
    """A way to keep the data set on disk, with one of its readers."""

    name: str
    files: str
    """Folder; layouts that share one are the same bytes."""
    write: Callable[[Path, Iterable[Scene]], None]
    open: Callable[[Path, DataSet], Read]
    arrays: Callable[[Any], Sample] = tuple
    in_order: bool = False
    """Can only be read from the beginning on, in one thread."""


def write_starts(folder: Path, scene: Scene) -> None:
    """Where the bank's rows of each frame begin; everybody reads them once."""
    np.save(folder / "starts.npy", scene.starts)


def by_rows(open_array: Callable[[Path, str], Rows]) -> Callable[[Path, DataSet], Read]:
    """Reader of a layout with a folder a scene, in which arrays are opened by name."""

    def opened(folder: Path, data: DataSet) -> Read:
        scenes = [folder / name for name in data.names]
        arrays = [{name: open_array(scene, name) for name in (*PATCHES, *COLUMNS)} for scene in scenes]
        starts = [np.load(scene / "starts.npy").tolist() for scene in scenes]

        def read(scene: int, frame: int) -> Sample:
            rows, spans = arrays[scene], zip(COLUMNS, starts[scene][frame], starts[scene][frame + 1], strict=True)
            patches = [rows[name](frame + 1 - WINDOW, frame + 1) for name in PATCHES]
            return (*patches, *(rows[name](start, stop) for name, start, stop in spans))

        return read

    return opened
