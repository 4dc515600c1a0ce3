"""Tables whose number of rows differs from frame to frame, stored column by column in one Zarr group.

Rows of all frames stand behind each other; ``frame_start`` (F + 1,) says where each frame begins. Rows are appended
as they come and written in whole chunks, so that memory stays bounded and no chunk is written twice.
"""

from collections.abc import Mapping
from typing import NoReturn

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from lima_core.errors import StoreError

CHUNK_ROWS = 1 << 17
WRITE_ALL_CHUNKS = {"write_empty_chunks": True}
"""So that a chunk that is not there is a chunk that was lost."""


class RaggedWriter:
    """Appends frames to a new group; nothing is readable before ``close``."""

    def __init__(self, group: zarr.Group, dtypes: Mapping[str, str]) -> None:
        self._group, self._starts, self._written = group, [0], 0
        self._pending: dict[str, list[np.ndarray]] = {name: [] for name in dtypes}
        self._arrays = {name: _create(group, name, dtype) for name, dtype in dtypes.items()}

    def append(self, columns: Mapping[str, np.ndarray]) -> None:
        """Adds one frame: a 1-D array of the same length for every column."""
        rows = {len(column) for column in columns.values()}
        assert len(rows) == 1 and columns.keys() == self._pending.keys(), (rows, columns.keys())
        for name, column in columns.items():
            self._pending[name].append(column)
        self._starts.append(self._starts[-1] + rows.pop())
        if self._starts[-1] - self._written >= CHUNK_ROWS:
            self._flush((self._starts[-1] - self._written) // CHUNK_ROWS * CHUNK_ROWS)

    def close(self) -> None:
        """Writes what is left and the frames' starts."""
        self._flush(self._starts[-1] - self._written)
        starts = np.array(self._starts, dtype=np.int64)
        self._group.create_array("frame_start", data=starts, config=WRITE_ALL_CHUNKS)

    def _flush(self, num_rows: int) -> None:
        for name, parts in self._pending.items():
            column = np.concatenate(parts) if parts else np.zeros(0, self._arrays[name].dtype)
            self._arrays[name].resize((self._written + num_rows,))
            self._arrays[name][self._written : self._written + num_rows] = column[:num_rows]
            self._pending[name] = [column[num_rows:]]
        self._written += num_rows


def _create(group: zarr.Group, name: str, dtype: str) -> zarr.Array:
    item_size = np.dtype(dtype).itemsize
    codec = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle", typesize=item_size)
    return group.create_array(
        name,
        shape=(0,),
        chunks=(CHUNK_ROWS,),
        dtype=dtype,
        compressors=codec,
        config=WRITE_ALL_CHUNKS,
    )


class RaggedReader:
    """Reads single frames; array handles and frame starts are read once.

    Raises:
        StoreError: a chunk is missing or cannot be decoded. Zarr itself would read a missing one as zeros.
    """

    def __init__(self, group: zarr.Group) -> None:
        self._where = group.store_path
        self._arrays = dict(group.arrays())
        for name, array in self._arrays.items():
            if array.nchunks_initialized != array.nchunks:
                self._refuse(f"array {name} has {array.nchunks_initialized} of {array.nchunks} chunks")
        self._starts = np.asarray(self._arrays.pop("frame_start")[:])

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._starts) - 1

    def frame(self, index: int) -> dict[str, np.ndarray]:
        """All columns of one frame, 1-D each."""
        start, stop = self._starts[index : index + 2]
        try:
            return {name: np.asarray(array[start:stop]) for name, array in self._arrays.items()}
        except (RuntimeError, ValueError, OSError) as error:
            self._refuse(f"frame {index} cannot be decoded ({error})")

    def _refuse(self, what: str) -> NoReturn:
        raise StoreError(what, where=self._where, remedy="remove the artifact and build it again")
