"""The layout of litdata, and tar files: members found by an index, or whole samples in a row as WebDataset has them."""

import importlib.util
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.layouts.data import PATCHES, WINDOW, DataSet, Sample, Scene
from benchmarks.layouts.layout import Layout, Read
from benchmarks.layouts.shards import Descriptor
from lima_core.stores.memory_bank import COLUMNS

CHUNK = "64MB"


def write_litdata(folder: Path, scenes: Iterable[Scene]) -> None:
    """Two streams, for not every frame of a window needs its bank; an item a frame."""
    from litdata.streaming.writer import BinaryWriter

    writers = {kind: BinaryWriter(_made(folder / kind), chunk_bytes=CHUNK) for kind in ("patches", "bank")}
    number = 0
    for scene in scenes:
        for frame in range(len(scene.starts) - 1):
            writers["patches"][number] = {name: array[frame] for name, array in scene.patches.items()}
            writers["bank"][number] = scene.frame_bank(frame)
            number += 1
    for writer in writers.values():
        writer.done()
        writer.merge()


def _made(folder: Path) -> str:
    folder.mkdir(parents=True)
    return str(folder)


def open_litdata(folder: Path, data: DataSet) -> Read:
    """Items by number."""
    from litdata import StreamingDataset

    patches, bank = (StreamingDataset(str(folder / kind)) for kind in ("patches", "bank"))
    frames = data.num_frames

    def read(scene: int, frame: int) -> Sample:
        last = scene * frames + frame
        items = [patches[number] for number in range(last + 1 - WINDOW, last + 1)]
        columns = bank[last]
        return (*(np.stack([item[name] for item in items]) for name in PATCHES), *(columns[name] for name in COLUMNS))

    return read


def write_tar(folder: Path, scenes: Iterable[Scene]) -> None:
    """A tar a scene, an .npy of every array of every frame as WebDataset has them, and an index of places."""
    folder.mkdir(parents=True)
    for scene in scenes:
        index = {}
        with tarfile.open(folder / f"{scene.name}.tar", "w") as tar:
            for frame in range(len(scene.starts) - 1):
                arrays = {name: array[frame] for name, array in scene.patches.items()} | scene.frame_bank(frame)
                for name, array in arrays.items():
                    place, header = _add(tar, f"{frame:06d}.{name}.npy", array)
                    index[f"{frame} {name}"] = [place + header, array.shape, array.dtype.str]
        (folder / f"{scene.name}.json").write_text(json.dumps(index))


def _add(tar: tarfile.TarFile, name: str, array: np.ndarray) -> tuple[int, int]:
    """Offset of the member's data, and bytes of its .npy header."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    member = tarfile.TarInfo(name)
    member.size = buffer.tell()
    buffer.seek(0)
    # The member's header takes one block of 512 bytes: the names are short.
    place = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(member, buffer)
    return place, member.size - array.nbytes


def open_tar(folder: Path, data: DataSet) -> Read:
    """Every member with one positional read, into its place in the window."""
    files = [Descriptor(folder / f"{name}.tar") for name in data.names]
    indices = [json.loads((folder / f"{name}.json").read_text()) for name in data.names]

    def member(scene: int, frame: int, name: str, out: np.ndarray | None = None) -> np.ndarray:
        place, shape, dtype = indices[scene][f"{frame} {name}"]
        out = np.empty(shape, dtype) if out is None else out
        os.preadv(files[scene].number, [out.reshape(-1).view(np.uint8)], place)
        return out

    def window(scene: int, frame: int, name: str) -> np.ndarray:
        _, shape, dtype = indices[scene][f"{frame} {name}"]
        out = np.empty((WINDOW, *shape), dtype)
        for place in range(WINDOW):
            member(scene, frame + 1 - WINDOW + place, name, out[place])
        return out

    def read(scene: int, frame: int) -> Sample:
        columns = (member(scene, frame, name) for name in COLUMNS)
        return (*(window(scene, frame, name) for name in PATCHES), *columns)

    return read


def stream_writer(data: DataSet, windows: Sequence[tuple[int, int]]) -> Callable[[Path, Iterable[Scene]], None]:
    """Whole samples in the order in which they will be read, in one tar: what a stream needs to have windows."""

    def write(folder: Path, scenes: Iterable[Scene]) -> None:
        del scenes
        folder.mkdir(parents=True)
        with tarfile.open(folder / "samples.tar", "w") as tar:
            for number, (scene, frame) in enumerate(windows):
                for name, array in zip((*PATCHES, *COLUMNS), data.scene(scene).sample(frame), strict=True):
                    _add(tar, f"{number:06d}.{name}.npy", array)

    return write


def open_stream(folder: Path, data: DataSet) -> Read:
    """The next sample, whichever is asked for; after the last one the first."""
    import webdataset

    def samples() -> Iterator[dict[str, Any]]:
        while True:
            yield from webdataset.WebDataset(str(folder / "samples.tar"), shardshuffle=False).decode()

    stream = samples()
    return lambda scene, frame: next(stream)


def arrays_of(sample: dict[str, Any]) -> Sample:
    """In the order of all others."""
    return tuple(sample[f"{name}.npy"] for name in (*PATCHES, *COLUMNS))


def layouts(data: DataSet, windows: Sequence[tuple[int, int]]) -> Iterable[Layout]:
    """Those whose packages are installed."""
    yield Layout("tar, own index", "tar", write_tar, open_tar)
    if importlib.util.find_spec("webdataset"):
        write = stream_writer(data, windows)
        yield Layout("tar of samples, webdataset's stream", "stream", write, open_stream, arrays_of, in_order=True)
    if importlib.util.find_spec("litdata"):
        yield Layout("litdata", "litdata", write_litdata, open_litdata)
