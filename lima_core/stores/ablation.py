"""Numbers of an ablation: one row per arm, seed, what was measured, and metric."""

from collections.abc import Sequence
from dataclasses import dataclass

from lima_core.storage import Location
from lima_core.stores.rows import read_rows, row_schema, write_rows

SCHEMA_VERSION = 1
FILE = "ablation.parquet"


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


_SCHEMA = row_schema(ArmNumber, "lima_ablation", SCHEMA_VERSION)


def write_numbers(path: Location, numbers: Sequence[ArmNumber]) -> None:
    """Writes ``<path>/ablation.parquet``; the same numbers give the same bytes."""
    write_rows(path / FILE, numbers, _SCHEMA)


def read_numbers(path: Location) -> list[ArmNumber]:
    """Numbers in the artifact folder ``path``.

    Raises:
        StoreError: missing, unreadable, or of another schema version.
    """
    return read_rows(path / FILE, ArmNumber, _SCHEMA, "numbers", "build it with: lima ablate")
