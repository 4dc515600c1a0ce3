"""Whatever is read says which version it is; another one is refused in one line that says what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lima_core.errors import StoreError
from lima_core.storage import Location
from lima_core.stores import ablation, feature_store, frame_index, materialised_bank, memory_bank, predictions, scores
from lima_core.stores.scene_store import write_declaration
from lima_core.whole import write_json


class Kind(NamedTuple):
    """A store: how another version of it is made, how it is opened, and what rebuilds it."""

    write: Callable[[Path], object]
    open: Callable[[Location], object]
    found: str
    reads: str
    rebuild: str


def group(folder: str) -> Callable[[Path], None]:
    return lambda path: write_declaration(path / folder, {"schema": "lima-other/99", "scenes": []})


def table(file: str, key: str, value: str) -> Callable[[Path], None]:
    return lambda path: pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({key: value}), path / file)


KINDS = {
    "frame index": Kind(
        table(frame_index.FILE, frame_index.METADATA_KEY.decode(), json.dumps({"schema": 99})),
        frame_index.FrameIndex.open,
        "99",
        str(frame_index.SCHEMA_VERSION),
        "lima stage index",
    ),
    "features": Kind(
        group(feature_store.FOLDER),
        feature_store.FeatureStore.open,
        "'lima-other/99'",
        repr(feature_store.SCHEMA),
        "lima stage extract-features",
    ),
    "bank": Kind(
        group(memory_bank.FOLDER),
        memory_bank.MemoryBank.open,
        "'lima-other/99'",
        repr(memory_bank.SCHEMA),
        "lima stage build-memory",
    ),
    "materialised bank": Kind(
        group(materialised_bank.FOLDER),
        materialised_bank.MaterialisedBank.open,
        "'lima-other/99'",
        repr(materialised_bank.SCHEMA),
        "lima stage materialize",
    ),
    "predictions": Kind(
        lambda path: write_json(path / predictions.FACTS, {"schema": 99}),
        predictions.Predictions.open,
        "99",
        str(predictions.SCHEMA_VERSION),
        "lima stage finetune",
    ),
    "scores": Kind(
        table(scores.FILE, "lima_scores", "99"),
        scores.read_scores,
        "99",
        str(scores.SCHEMA_VERSION),
        "lima stage evaluate",
    ),
    "numbers": Kind(
        table(ablation.FILE, "lima_ablation", "99"),
        ablation.read_numbers,
        "99",
        str(ablation.SCHEMA_VERSION),
        "lima ablate",
    ),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_another_version_is_refused_with_what_to_do(tmp_path: Path, kind: Kind) -> None:
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    kind.write(artifact)
    with pytest.raises(StoreError) as caught:
        kind.open(artifact)
    line = str(caught.value)
    assert line.startswith(str(artifact)) and "\n" not in line
    assert f"{kind.found}, this" in line and f"reads {kind.reads};" in line
    assert line.endswith((f"; build it with: {kind.rebuild}", f"{kind.rebuild} again", f"again with: {kind.rebuild}"))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_is_not_there_is_refused_with_what_to_do(tmp_path: Path, kind: Kind) -> None:
    with pytest.raises(StoreError, match=kind.rebuild):
        kind.open(tmp_path)
