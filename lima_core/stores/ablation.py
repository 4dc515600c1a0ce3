"""Numbers of an ablation: one row per arm, seed, what was measured, and metric."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lima_core.errors import StoreError
from lima_core.whole import appears_whole

SCHEMA_VERSION = 1
FILE = "ablation.parquet"
_VERSION_KEY = b"lima_ablation"


@dataclass(frozen=True)
class ArmNumber:
    """One number of one arm."""

    arm: str
    seed: int | None
    """None for what has no seed: the memory bank."""
    subject: str
    """What was measured: ``bank``, ``distill``, or the protocol of a downstream run, ``linear_probe``, ``finetune``."""
    metric: str
    """``coverage``, ``depth``, ``purity_points``, ``purity_pixels`` (bank); ``loss`` (distill); ``miou``, ``iou``."""
    value: float | None
    """Shares and IoU as fractions; None where the number is not defined."""
    dataset: str
    synthetic: bool
    """Whether the data were generated; such a number says nothing about real recordings."""
    task: str = ""
    ratio: float | None = None
    """Share of the training labels that was asked for, 0..1; None where none are read."""
    subset_rule: str = ""
    subset_hash: str = ""
    """Of the list of training frames: equal hashes, equal frames."""
    class_name: str = ""
    """Empty for a number over all classes."""


_TYPES = {
    str: pa.string(),
    bool: pa.bool_(),
    int | None: pa.int64(),
    float | None: pa.float64(),
}
_SCHEMA = pa.schema([pa.field(f.name, _TYPES[f.type]) for f in fields(ArmNumber)], {_VERSION_KEY: str(SCHEMA_VERSION)})


def write_numbers(path: Path, numbers: Sequence[ArmNumber]) -> None:
    """Writes ``<path>/ablation.parquet``; the same numbers give the same bytes."""
    with appears_whole(path / FILE) as partial:
        pq.write_table(pa.Table.from_pylist([asdict(number) for number in numbers], schema=_SCHEMA), partial)


def read_numbers(path: Path) -> list[ArmNumber]:
    """Numbers in the artifact folder ``path``.

    Raises:
        StoreError: missing, unreadable, or of another schema version.
    """
    file, remedy = path / FILE, "build it with: lima ablate"
    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"no readable numbers ({str(error).splitlines()[0]})", where=file, remedy=remedy) from error
    version = (table.schema.metadata or {}).get(_VERSION_KEY, b"?").decode()
    if version != str(SCHEMA_VERSION):
        what = f"has schema version {version}, this program reads {SCHEMA_VERSION}"
        raise StoreError(what, where=file, remedy=remedy)
    return [ArmNumber(**row) for row in table.to_pylist()]
