"""Scores: one row per number, with all that is needed to know what the number means."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lima_core.storage import Location
from lima_core.stores.rows import read_rows, row_schema, write_rows

SCHEMA_VERSION = 2
FILE = "scores.parquet"


@dataclass(frozen=True)
class Score:
    """One number."""

    dataset: str
    task: str
    """``seg`` or ``det``."""
    protocol: str
    """``linear_probe`` or ``finetune``."""
    init: str
    """``random`` or ``pretrained``."""
    method: str
    """Pre-training method, ``none`` for random initialisation."""
    ratio: float
    """Share of the training split that was asked for, 0..1."""
    subset_rule: str
    """How that share was taken; ``1 %`` means different frames under different rules."""
    subset_hash: str
    """Of the list of training frames: equal hashes, equal frames."""
    num_scenes: int
    """Scenes trained on, without those held out."""
    num_frames: int
    """Frames trained on, without those held out."""
    seed: int
    evaluator: str
    """Program that computed the number."""
    metric: str
    """``iou``, ``miou``, ... as a fraction, not in per cent."""
    class_name: str
    """Empty for a number over all classes."""
    value: float | None
    """None where the number is not defined (IoU of a class that does not occur)."""
    selection: str = "last"
    """How the weights were chosen: ``last``, or ``best`` on held-out training scenes."""
    heldout_hash: str = ""
    """Of the names of the scenes that were held out for it; empty where none was."""


_SCHEMA = row_schema(Score, "lima_scores", SCHEMA_VERSION)


def write_scores(path: Location, scores: Sequence[Score]) -> None:
    """Writes ``<path>/scores.parquet``; the same scores give the same bytes."""
    write_rows(path / FILE, scores, _SCHEMA)


def read_scores(path: Location) -> list[Score]:
    """Scores in the artifact folder ``path``.

    Raises:
        StoreError: missing, unreadable, or of another schema version.
    """
    file = path / FILE
    remedy = "build it with: lima stage evaluate"
    return read_rows(file, Score, _SCHEMA, "scores", remedy)


def concat_scores(paths: Iterable[Location]) -> list[Score]:
    """Scores of several artifact folders, in their order."""
    return [score for path in paths for score in read_scores(path)]
