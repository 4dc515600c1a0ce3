"""Scores: one row per number, with all that is needed to know what the number means."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lima_core.errors import StoreError
from lima_core.whole import appears_whole

SCHEMA_VERSION = 1
FILE = "scores.parquet"
_VERSION_KEY = b"lima_scores"


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
    """Scenes trained on."""
    num_frames: int
    """Frames trained on."""
    seed: int
    evaluator: str
    """Program that computed the number."""
    metric: str
    """``iou``, ``miou``, ... as a fraction, not in per cent."""
    class_name: str
    """Empty for a number over all classes."""
    value: float | None
    """None where the number is not defined (IoU of a class that does not occur)."""


_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), float | None: pa.float64()}
_SCHEMA = pa.schema([pa.field(f.name, _TYPES[f.type]) for f in fields(Score)], {_VERSION_KEY: str(SCHEMA_VERSION)})


def write_scores(path: Path, scores: Sequence[Score]) -> None:
    """Writes ``<path>/scores.parquet``; the same scores give the same bytes."""
    with appears_whole(path / FILE) as partial:
        pq.write_table(pa.Table.from_pylist([asdict(score) for score in scores], schema=_SCHEMA), partial)


def read_scores(path: Path) -> list[Score]:
    """Scores in the artifact folder ``path``.

    Raises:
        StoreError: missing, unreadable, or of another schema version.
    """
    file = path / FILE
    remedy = "build it with: lima stage evaluate"
    if not file.is_file():
        raise StoreError("no scores", where=file, remedy=remedy)
    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"no readable scores ({str(error).splitlines()[0]})", where=file, remedy=remedy) from error
    version = (table.schema.metadata or {}).get(_VERSION_KEY, b"?").decode()
    if version != str(SCHEMA_VERSION):
        what = f"has schema version {version}, this program reads {SCHEMA_VERSION}"
        raise StoreError(what, where=file, remedy=remedy)
    return [Score(**row) for row in table.to_pylist()]


def concat_scores(paths: Iterable[Path]) -> list[Score]:
    """Scores of several artifact folders, in their order."""
    return [score for path in paths for score in read_scores(path)]
