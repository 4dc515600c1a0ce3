"""Parquet files read by this thread alone.

Arrow reads with threads of its own, which now and then are still there when the interpreter is gone, and then end a
process that has done all its work with SIGABRT (https://github.com/apache/arrow/issues/34314). Our tables are small.
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq


def table_of(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """The table, or some of its columns, of a whole Parquet file in memory.

    Raises:
        pyarrow.ArrowException, OSError: it is none, or damaged.
    """
    return pq.ParquetFile(pa.BufferReader(data)).read(columns=columns, use_threads=False)
