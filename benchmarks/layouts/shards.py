"""Zarr v3, an array of a scene in one shard: chunks, codecs and readers; and a bank padded to one length per frame."""

import importlib.util
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr
from numcodecs import blosc, zstd
from zarr.codecs import BloscCodec, ZstdCodec

from benchmarks.layouts.data import PATCHES, Scene
from benchmarks.layouts.layout import Layout, Rows, by_rows, write_starts
from lima_core.stores.memory_bank import COLUMNS
from lima_core.stores.ragged import CHUNK_ROWS

LZ4 = BloscCodec(cname="lz4", shuffle="bitshuffle")
ZSTD = ZstdCodec(level=1)
ZARRS = "zarrs.ZarrsCodecPipeline"
Codec = BloscCodec | ZstdCodec | None
Decode = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Chunks:
    """How the arrays are cut and coded."""

    name: str
    of_patches: tuple[int | None, ...]
    """Of the leading axes; None is the whole axis, as are all that are not named."""
    codec: Codec = None
    decode: Decode = bytes

    @property
    def folder(self) -> str:
        """Name for a folder."""
        return self.name.replace(" ", "-").replace(",", "")


FRAME = Chunks("chunk a frame", (1,))
CHUNKS = (
    FRAME,
    Chunks("chunk a camera", (1, 1)),
    Chunks("chunk of 8 frames", (8,)),
    Chunks("chunk a frame, lz4", (1,), LZ4, blosc.decompress),
    Chunks("chunk a frame, zstd", (1,), ZSTD, zstd.decompress),
)


def writer_of(chunks: Chunks) -> Callable[[Path, Iterable[Scene]], None]:
    """Writes scenes with zarr-python, array by array."""

    def write(folder: Path, scenes: Iterable[Scene]) -> None:
        for scene in scenes:
            for name, array in scene.arrays.items():
                cut = chunks.of_patches if name in PATCHES else (CHUNK_ROWS,)
                write_array(folder / scene.name / name, array, cut, chunks.codec)
            write_starts(folder / scene.name, scene)

    return write


def create_array(folder: Path, like: np.ndarray, cut: Sequence[int | None], codec: Codec) -> zarr.Array:
    """An array of one shard, the leading axes of its chunks as ``cut`` says."""
    chunks = [size or whole for size, whole in zip(cut, like.shape, strict=False)] + list(like.shape[len(cut) :])
    shards = [size * math.ceil(whole / size) for size, whole in zip(chunks, like.shape, strict=True)]
    options = {"chunks": tuple(chunks), "shards": tuple(shards), "compressors": codec, "zarr_format": 3}
    return zarr.create_array(folder, shape=like.shape, dtype=like.dtype, **options)


def write_array(folder: Path, array: np.ndarray, cut: Sequence[int | None], codec: Codec) -> None:
    """Writes an array whole."""
    create_array(folder, array, cut, codec)[...] = array


def write_frame_by_frame(folder: Path, scenes: Iterable[Scene]) -> None:
    """As features come, without collecting a shard: zarr-python reads and writes it again for every chunk."""
    for scene in scenes:
        for name, array in scene.patches.items():
            target = create_array(folder / scene.name / name, array, (1,), None)
            for frame in range(len(array)):
                target[frame] = array[frame]
        for name, array in scene.bank.items():
            write_array(folder / scene.name / name, array, (CHUNK_ROWS,), None)


def by_zarr_python(scene: Path, name: str) -> Rows:
    """zarr-python's own reader."""
    array = zarr.open_array(scene / name, mode="r")
    return lambda start, stop: array[start:stop]


def by_zarrs(scene: Path, name: str) -> Rows:
    """zarr-python with the codec pipeline in Rust."""
    with zarr.config.set({"codec_pipeline.path": ZARRS}):
        array = zarr.open_array(scene / name, mode="r")
    return lambda start, stop: array[start:stop]


def by_tensorstore(scene: Path, name: str) -> Rows:
    """Google's tensorstore at its defaults."""
    import tensorstore

    store = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{scene / name}/"}}
    array = tensorstore.open(store, read=True).result()
    return lambda start, stop: array[start:stop].read().result()


def by_position(decode: Decode) -> Callable[[Path, str], Rows]:
    """The shard's index once, then every chunk with one positional read; chunks are cut along the first axis only."""

    def opened(scene: Path, name: str) -> Rows:
        array = zarr.open_array(scene / name, mode="r")
        chunk, path = array.chunks, next(path for path in (scene / name / "c").rglob("*") if path.is_file())
        row_shape, dtype, descriptor = array.shape[1:], array.dtype, Descriptor(path)
        index = descriptor.shard_index(math.ceil(array.shape[0] / chunk[0]))

        def rows(start: int, stop: int) -> np.ndarray:
            first, last = start // chunk[0], -(-stop // chunk[0])
            parts = [decode(os.pread(descriptor.number, size, offset)) for offset, size in index[first:last]]
            cut = np.concatenate([np.frombuffer(part, dtype).reshape(-1, *row_shape) for part in parts])
            return cut[start - first * chunk[0] : stop - first * chunk[0]]

        return rows

    return opened


class Descriptor:
    """A file that is open as long as this lives."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        os.close(self.number)

    def shard_index(self, num_chunks: int) -> list[list[int]]:
        """Offset and size of every inner chunk."""
        end = os.fstat(self.number).st_size - 4
        index = os.pread(self.number, 16 * num_chunks, end - 16 * num_chunks)
        return np.frombuffer(index, "<u8").reshape(-1, 2).tolist()


def write_padded(folder: Path, scenes: Iterable[Scene]) -> None:
    """As chunks of a frame without codec, but a chunk of the bank is a frame, padded to the longest, with zstd."""
    for scene in scenes:
        lengths = np.diff(scene.starts, axis=0)
        for name, array in scene.patches.items():
            write_array(folder / scene.name / name, array, (1,), None)
        for column, (name, rows) in enumerate(scene.bank.items()):
            longest = lengths[:, column].max()
            padded = np.zeros((len(lengths), longest, *rows.shape[1:]), rows.dtype)
            padded[np.arange(longest) < lengths[:, column, None]] = rows
            write_array(folder / scene.name / name, padded, (1,), ZSTD)
        np.save(folder / scene.name / "starts.npy", padded_starts(lengths))


def padded_starts(lengths: np.ndarray) -> np.ndarray:
    """(F + 1, columns) such that a frame's rows start at its number's place: see ``open_padded``."""
    return np.concatenate([np.zeros((1, lengths.shape[1]), np.int64), np.cumsum(lengths, axis=0)])


def open_padded(scene: Path, name: str) -> Rows:
    """Positional reads; rows of a bank's frame from its padded chunk."""
    if name in PATCHES:
        return by_position(bytes)(scene, name)
    frames = by_position(zstd.decompress)(scene, name)
    starts = np.load(scene / "starts.npy")[:, tuple(COLUMNS).index(name)]

    def rows(start: int, stop: int) -> np.ndarray:
        frame = int(np.searchsorted(starts, start, side="right")) - 1
        return frames(frame, frame + 1)[0, : stop - start]

    return rows


def layouts() -> Iterable[Layout]:
    """Every way to cut with every reader that is installed."""
    readers = {"zarr-python": by_zarr_python}
    readers |= {"zarrs": by_zarrs} if importlib.util.find_spec("zarrs") else {}
    readers |= {"tensorstore": by_tensorstore} if importlib.util.find_spec("tensorstore") else {}
    for chunks in CHUNKS:
        for reader, opened in readers.items():
            yield Layout(f"{chunks.name}: {reader}", chunks.folder, writer_of(chunks), by_rows(opened))
        if chunks.of_patches == (1,):
            opened = by_rows(by_position(chunks.decode))
            yield Layout(f"{chunks.name}: positional", chunks.folder, writer_of(chunks), opened)
    yield Layout("bank padded, zstd: positional", "bank-padded", write_padded, by_rows(open_padded))
