"""A table is read without threads that could outlive the interpreter."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lima_core.stores.parquet import table_of

TABLE = pa.table({"a": list(range(1000)), "b": [str(i) for i in range(1000)], "c": [[i, i] for i in range(1000)]})
COUNT = """
import os, sys
from pathlib import Path
from lima_core.stores.parquet import table_of
import pyarrow.parquet
before, data = len(os.listdir("/proc/self/task")), Path(sys.argv[1]).read_bytes()
assert table_of(data).num_rows == 1000
print(len(os.listdir("/proc/self/task")) - before)
"""


def test_table_and_columns_come_back(tmp_path: Path) -> None:
    pq.write_table(TABLE.replace_schema_metadata({"key": "value"}), tmp_path / "x.parquet", row_group_size=100)
    data = (tmp_path / "x.parquet").read_bytes()
    assert table_of(data).equals(TABLE) and table_of(data).schema.metadata == {b"key": b"value"}
    assert table_of(data, ["c", "a"]).column_names == ["c", "a"]


def test_no_thread_is_left(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "x.parquet", row_group_size=100)
    command = [sys.executable, "-c", COUNT, str(tmp_path / "x.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.stdout.strip() == "0", done.stderr
