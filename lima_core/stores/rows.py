"""Lists of dataclass rows as one Parquet file each: same rows, same bytes; another schema version is refused."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from lima_core.errors import StoreError
from lima_core.storage import Location, read_bytes
from lima_core.stores.parquet import table_of
from lima_core.whole import appears_whole

Row = TypeVar("Row")

_TYPES = {
    str: pa.string(),
    bool: pa.bool_(),
    int: pa.int64(),
    int | None: pa.int64(),
    float: pa.float64(),
    float | None: pa.float64(),
}


def row_schema(kind: type, version_key: str, version: int) -> pa.Schema:
    """Columns of the dataclass ``kind``, with the schema version in the file's metadata."""
    return pa.schema([pa.field(f.name, _TYPES[f.type]) for f in fields(kind)], {version_key: str(version)})


def write_rows(file: Location, rows: Sequence[Any], schema: pa.Schema) -> None:
    """Writes the file whole or not at all."""
    with appears_whole(file) as partial:
        pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows], schema=schema), partial)


def read_rows(file: Location, kind: type[Row], schema: pa.Schema, what: str, remedy: str) -> list[Row]:
    """All rows of the file.

    Args:
        file: as ``write_rows`` left it.
        kind: the dataclass of a row.
        schema: with the version that is read.
        what: the rows' name in messages.
        remedy: what to do about a file that cannot be used.

    Raises:
        StoreError: unreadable, or of another schema version.
    """
    ((key, expected),) = schema.metadata.items()
    try:
        data = read_bytes(file)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"no {what}", where=file, remedy=remedy) from error
    try:
        table = table_of(data)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"no readable {what} ({str(error).splitlines()[0]})", where=file, remedy=remedy) from error
    version = (table.schema.metadata or {}).get(key, b"?").decode()
    if version != expected.decode():
        found = f"has schema version {version}, this program reads {expected.decode()}"
        raise StoreError(found, where=file, remedy=remedy)
    return [kind(**row) for row in table.to_pylist()]
