"""Raw files under np.memmap, safetensors, and lima's own stores through their public readers."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from benchmarks.layouts.data import WINDOW, DataSet, Sample, Scene, columns_of
from benchmarks.layouts.layout import Layout, Read, Rows, by_rows, write_starts
from lima_core.checksums import seal
from lima_core.stores import memory_bank
from lima_core.stores.feature_store import FOLDER, FeatureFacts, FeatureStore, Patches, create_store
from lima_core.stores.memory_bank import COLUMNS, FrameBank, MemoryBank, create_bank
from lima_core.stores.ragged import RaggedWriter
from lima_core.stores.row_array import RowArrayWriter, write_array
from lima_core.stores.scene_store import scene_part
from lima_core.whole import appears_whole

MEMMAP = "np.memmap"
LIMA = "lima"


def write_raw(folder: Path, scenes: Iterable[Scene]) -> None:
    """A file an array, nothing but its bytes; the shape lies beside."""
    for scene in scenes:
        (folder / scene.name).mkdir(parents=True)
        for name, array in scene.arrays.items():
            array.tofile(folder / scene.name / name)
            np.save(folder / scene.name / f"{name}.npy", np.array([array.dtype.str, *array.shape]))
        write_starts(folder / scene.name, scene)


def mapped(scene: Path, name: str) -> Rows:
    """Copies out of a mapping."""
    dtype, *shape = np.load(scene / f"{name}.npy").tolist()
    rows = np.memmap(scene / name, dtype, "r", shape=tuple(map(int, shape)))
    return lambda start, stop: np.array(rows[start:stop])


def write_safetensors(folder: Path, scenes: Iterable[Scene]) -> None:
    """A file a scene."""
    for scene in scenes:
        (folder / scene.name).mkdir(parents=True)
        save_file(scene.arrays, folder / scene.name / "arrays.safetensors")
        write_starts(folder / scene.name, scene)


def from_safetensors(scene: Path, name: str) -> Rows:
    """Slices of a tensor."""
    tensor = safe_open(scene / "arrays.safetensors", framework="numpy").get_slice(name)
    return lambda start, stop: tensor[start:stop]


def write_lima(folder: Path, scenes: Iterable[Scene]) -> None:
    """Both stores, sealed and flushed as always; the codes are there already."""
    for scene in scenes:
        with appears_whole(scene_part(folder / "features" / FOLDER, scene.name)) as part:
            write_rows(part, scene)
            seal(part, {})
        with memory_bank.write_scene(folder / "memory", scene.name) as writer:
            for frame in range(len(scene.starts) - 1):
                point_target, num_references, view, position = scene.frame_bank(frame).values()
                (age, camera), (u, v) = view.T, position.T
                writer.append(FrameBank(point_target, num_references, age, camera, u, v))


def write_rows(part: Path, scene: Scene) -> None:
    """The arrays of a feature store's scene, frame by frame."""
    codes, token_scale = scene.patches.values()
    with ExitStack() as stack:
        writers = [stack.enter_context(RowArrayWriter(part / name, array.shape[1:], array.dtype.name, 1))
                   for name, array in scene.patches.items()]  # fmt: skip
        for frame in range(len(codes)):
            for writer, array in zip(writers, (codes, token_scale), strict=True):
                writer.append(array[frame : frame + 1])
    write_array(part / "has_image", np.ones(codes.shape[:2], bool))
    write_array(part / "channel_scale", np.ones(codes.shape[-1], np.float32))


def write_unsealed(folder: Path, scenes: Iterable[Scene]) -> None:
    """The same arrays without checksums, flushing and renaming."""
    for scene in scenes:
        write_rows(folder / "features" / scene.name, scene)
        with RaggedWriter(folder / "memory" / scene.name, COLUMNS) as writer:
            for frame in range(len(scene.starts) - 1):
                writer.append(scene.frame_bank(frame))


def declare_lima(folder: Path, data: DataSet) -> None:
    """What both stores say of themselves before they are written."""
    _, num_cameras, height, width, channels = data.codes.shape
    cameras = tuple(map(str, range(num_cameras)))
    size_px = (14 * height, 14 * width)
    facts = FeatureFacts(channels, 14, size_px, (height, width), "int8", "made up", cameras, data.names)
    create_store(folder / "features", facts)
    create_bank(folder / "memory", WINDOW, 0.1, cameras, data.names)


def open_lima(folder: Path, data: DataSet) -> Read:
    """FeatureStore.read and MemoryBank.frame."""
    store, bank, names = FeatureStore.open(folder / "features"), MemoryBank.open(folder / "memory"), data.names
    for name in names:  # as all others, with all files opened once
        store.read(name, 0, 0)
        bank.frame(name, 0)

    def read(scene: int, frame: int) -> tuple[Patches, FrameBank]:
        return store.read(names[scene], frame + 1 - WINDOW, frame + 1), bank.frame(names[scene], frame)

    return read


def arrays_of(read: Any) -> Sample:
    """The sample in what lima's readers return."""
    patches, bank = read
    return (patches.codes, patches.token_scale, *columns_of(bank).values())


LAYOUTS = (
    Layout(MEMMAP, "raw", write_raw, by_rows(mapped)),
    Layout("safetensors", "safetensors", write_safetensors, by_rows(from_safetensors)),
)


def lima_layout(data: DataSet) -> Layout:
    """Both stores and their public readers."""

    def write(folder: Path, scenes: Iterable[Scene]) -> None:
        declare_lima(folder, data)
        write_lima(folder, scenes)

    return Layout(LIMA, "lima", write, open_lima, arrays_of)
