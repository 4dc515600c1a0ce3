"""Plain, aligned, greppable text for the terminal."""

from collections.abc import Sequence
from typing import Any

import yaml

from pipeline.disk import size
from pipeline.manifest import Manifest


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; the last one runs on."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header) - 1)]
    padded = ([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]] for line in lines)
    return "\n".join("  ".join(cells).rstrip() for cells in padded)


def duration(seconds: float | None) -> str:
    """``45 s``, ``12 min``, ``3.4 h``; ``?`` for None."""
    if seconds is None:
        return "?"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def bytes_or_unknown(num_bytes: int | None) -> str:
    """``1.2 GB``; ``?`` for None."""
    return "?" if num_bytes is None else size(num_bytes)


def manifest_text(path: object, record: Manifest) -> str:
    """Everything a manifest says, as YAML under one heading per part."""
    took = f"{duration(record.seconds)}{', resumed (the last session only)' if record.resumed else ''}"
    heads = [
        f"artifact     {path}",
        f"stage        {record.recipe['stage']} version {record.recipe['version']}",
        f"fingerprint  {record.fingerprint}",
        f"created      {record.created}, {took}, {size(record.num_bytes)}",
    ]
    parts = {
        "config": record.recipe["config"],
        "inputs": record.inputs,
        "summary": record.summary,
        "provenance": record.provenance,
    }
    return "\n".join([*heads, *(_part(name, value) for name, value in parts.items() if value)])


def _part(name: str, values: dict[str, Any]) -> str:
    """A heading, then one line per key; what is nested is kept on few lines."""
    lines = [line for key, value in values.items() for line in _dump({key: value}, value).rstrip().splitlines()]
    return f"\n{name}\n" + "\n".join(f"  {line}" for line in lines)


def _dump(values: dict[str, Any], value: Any) -> str:
    style = None if isinstance(value, dict | list) else False
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=style, width=110, allow_unicode=True)
