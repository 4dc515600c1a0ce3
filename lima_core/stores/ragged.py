"""Tables whose number of rows differs from frame to frame: the rows of all frames behind each other, column by column.

``frame_start`` (F + 1, columns) says where the rows of each frame begin in each column, in the order in which the
columns were declared.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np

from lima_core.errors import StoreError
from lima_core.stores.part import Part
from lima_core.stores.row_array import RowArrayWriter, write_array

CHUNK_ROWS = 1 << 14
"""The least that another Zarr reader reads; ours reads rows."""
STARTS = "frame_start"


class Column(NamedTuple):
    """Shape and type of a row."""

    row_shape: tuple[int, ...]
    dtype: str


class RaggedWriter:
    """Appends frames to columns below ``folder``; nothing is readable before the ``with`` block ends."""

    def __init__(self, folder: Path, columns: Mapping[str, Column]) -> None:
        self.folder = folder
        self.columns = {name: RowArrayWriter(folder / name, *column, CHUNK_ROWS) for name, column in columns.items()}
        self.starts = [[0] * len(columns)]

    def __enter__(self) -> "RaggedWriter":
        with ExitStack() as opened:
            for writer in self.columns.values():
                opened.enter_context(writer)
            self._opened = opened.pop_all()
        return self

    def append(self, rows: Mapping[str, np.ndarray]) -> None:
        """Adds one frame: its rows of every column."""
        assert rows.keys() == self.columns.keys(), rows.keys()
        for name, writer in self.columns.items():
            writer.append(rows[name])
        self.starts.append([writer.num_rows for writer in self.columns.values()])

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._opened.__exit__(kind, error, at)
        if error is None:
            write_array(self.folder / STARTS, np.array(self.starts, np.int64))


class RaggedReader:
    """Reads single frames; array handles and frame starts are read once."""

    def __init__(self, part: Part, columns: Mapping[str, Column]) -> None:
        """Opens the columns, in the order in which they were declared.

        Raises:
            StoreError: an array is missing, truncated, or of other rows than its column.
        """
        self.folder = part.folder
        self.columns = {name: part.rows(name) for name in columns}
        for name, column in columns.items():
            self.columns[name].require((None, *column.row_shape), column.dtype)
        self.starts = part.values(STARTS, (None, len(columns)), "int64")

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.starts) - 1

    def frame(self, index: int) -> dict[str, np.ndarray]:
        """The rows of one frame in every column.

        Raises:
            StoreError: there is no such frame, or a file ends before it.
        """
        if not 0 <= index < len(self):
            raise StoreError(f"frame {index} of a scene of {len(self)} frames", where=self.folder)
        spans = zip(self.starts[index].tolist(), self.starts[index + 1].tolist(), strict=True)
        return {name: array.read(*span) for (name, array), span in zip(self.columns.items(), spans, strict=True)}
