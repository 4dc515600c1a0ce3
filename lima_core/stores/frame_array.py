"""Zarr arrays that grow by one frame and are read by slices of frames, each with one sequential access.

An array is one Zarr v3 shard (one file) whose inner chunks are the frames, uncompressed, in order. Any Zarr v3 reader
opens it. The shard is written here by hand because zarr-python rewrites the whole shard for every chunk (0.02 GB/s
against 4 GB/s), and read here by hand because frame i of an uncompressed shard in order lies at i times the frame's
size (7 to 12 times faster than zarr-python). The index and its checksum end the file:
https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
"""

import math
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import google_crc32c
import numpy as np
import zarr

from lima_core.errors import StoreError

REMEDY = "remove the scene's folder and build the artifact again"


class FrameArrayWriter:
    """Writes a new array of declared shape frame by frame; leaving the ``with`` block closes the shard."""

    def __init__(self, group: zarr.Group, folder: Path, name: str, shape: Sequence[int], dtype: str) -> None:
        """Declares the array.

        Args:
            group: open for writing, stored at ``folder``.
            folder: the group's folder.
            name: of the array in the group.
            shape: (frames, ...), all of at least 1.
            dtype: little endian NumPy type.
        """
        self.shape, self.dtype, self.num_written = tuple(shape), np.dtype(dtype), 0
        frame_shape = (1, *self.shape[1:])
        group.create_array(
            name, shape=self.shape, chunks=frame_shape, shards=self.shape, dtype=self.dtype, compressors=None
        )
        self.file_path = _shard(folder / name, len(self.shape))

    def __enter__(self) -> "FrameArrayWriter":
        self.file_path.parent.mkdir(parents=True)
        self.file = self.file_path.open("xb")
        return self

    def append(self, frame: np.ndarray) -> None:
        """Writes the next frame, of the declared shape without its first axis and of the declared dtype."""
        assert frame.shape == self.shape[1:] and frame.dtype == self.dtype, (frame.shape, frame.dtype)
        self.file.write(np.ascontiguousarray(frame).data)
        self.num_written += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self.file:
            if error is None:
                assert self.num_written == self.shape[0], f"{self.num_written} of {self.shape[0]} frames written"
                self.file.write(_shard_index(self.shape, self.dtype))


class FrameArray:
    """Reads slices of frames of an array that FrameArrayWriter wrote; holds no open file, so threads may share it."""

    def __init__(self, folder: Path, name: str) -> None:
        """Opens the array.

        Raises:
            StoreError: the array is missing, of another layout, or its file is truncated.
        """
        array = _open_array(folder, name)
        self.shape, self.dtype = array.shape, np.dtype(array.dtype)
        self.file_path = _shard(folder / name, len(self.shape))
        self.frame_bytes = _frame_bytes(self.shape, self.dtype)
        expected = self.frame_bytes * self.shape[0] + 16 * self.shape[0] + 4
        found = self.file_path.stat().st_size if self.file_path.is_file() else 0
        if found != expected:
            raise StoreError(
                f"truncated array: {found} bytes instead of {expected}",
                where=self.file_path,
                remedy=REMEDY,
            )

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames start..stop-1, (stop - start, ...) in the stored dtype, in one sequential read.

        Raises:
            StoreError: the slice lies outside the stored frames, or is empty.
        """
        if not 0 <= start < stop <= self.shape[0]:
            raise StoreError(f"frames {start}..{stop} of an array of {self.shape[0]} frames", where=self.file_path)
        count = (stop - start) * self.frame_bytes // self.dtype.itemsize
        flat = np.fromfile(self.file_path, self.dtype, count, offset=start * self.frame_bytes)
        return flat.reshape(stop - start, *self.shape[1:])


def _open_array(folder: Path, name: str) -> zarr.Array:
    try:
        array = zarr.open_array(folder / name, mode="r", zarr_format=3)
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise StoreError("missing or unreadable array", where=folder / name, remedy=REMEDY) from error
    if array.shards != array.shape or array.chunks != (1, *array.shape[1:]) or array.compressors:
        raise StoreError("not one uncompressed shard of frames", where=folder / name, remedy=REMEDY)
    return array


def _shard(folder: Path, num_axes: int) -> Path:
    return folder.joinpath("c", *["0"] * num_axes)


def _frame_bytes(shape: Sequence[int], dtype: np.dtype) -> int:
    return math.prod(shape[1:]) * dtype.itemsize


def _shard_index(shape: Sequence[int], dtype: np.dtype) -> bytes:
    """(frames, 2) little endian uint64 offset and size of every frame, then their CRC-32C."""
    size = _frame_bytes(shape, dtype)
    index = np.stack([np.arange(shape[0]) * size, np.full(shape[0], size)], axis=1).astype("<u8").tobytes()
    return index + google_crc32c.value(index).to_bytes(4, "little")
