"""Records of long measurements: written again after every part, and one may go on with what an earlier one found."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lima_core.types import Resources
from pipeline.manifest import provenance


def head(schema: str, subject: str, workers: int, seed: int | None, earlier: dict[str, Any]) -> dict[str, Any]:
    """What every record says: what was measured, when, by which code on what; and the same of ``earlier``."""
    kept = ("date", "seed", "provenance", "earlier")
    return {
        "schema": schema,
        "subject": subject,
        "earlier": {key: earlier[key] for key in kept if key in earlier},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **({} if seed is None else {"seed": seed}),
        "provenance": provenance(Resources(workers=workers)),
    }


def earlier_record(path: Path | None) -> dict[str, Any]:
    """The record that is to be gone on with; empty where there is none."""
    return json.loads(path.read_text()) if path else {}


def save(record: dict[str, Any], out: Path | None) -> None:
    """Writes the record so far, where it is wanted."""
    if out:
        out.write_text(json.dumps(record, indent=1) + "\n")
