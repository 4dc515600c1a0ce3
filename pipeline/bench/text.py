"""A record as text: aligned for the terminal, or Markdown for a page."""

from collections.abc import Callable, Sequence
from typing import Any

from pipeline.text import bytes_or_unknown, table

COLUMNS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("contestant", lambda row: row["name"] + (f" x {row['times']}" if "times" in row else "")),
    ("median ms", lambda row: _ms(row["ms"]["median"])),
    ("quartiles", lambda row: f"{_ms(row['ms']['q1'])} to {_ms(row['ms']['q3'])}"),
    ("rounds", lambda row: str(row["rounds"])),
    ("speed", lambda row: _ratio(row.get("faster_than"))),
    ("items/s", lambda row: f"{row['items_per_s']:.4g}" if "items_per_s" in row else ""),
    ("GFLOP/s", lambda row: f"{row['gflop_per_s']:.0f}" if "gflop_per_s" in row else ""),
    ("of torch.mm", lambda row: _percent(row.get("share_of_mm"))),
    ("GB/s", lambda row: f"{row['gb_per_s']:.1f}" if "gb_per_s" in row else ""),
    ("of bound", lambda row: _percent(row.get("share_of_bound"))),
    ("of whole", lambda row: _percent(row.get("share_of_whole"))),
    ("peak memory", lambda row: bytes_or_unknown(row["peak_bytes"]) if "peak_bytes" in row else ""),
    ("per 10 k voxels", lambda row: bytes_or_unknown(row.get("peak_per_10k")) if "peak_per_10k" in row else ""),
    ("kB/frame", lambda row: f"{row['disk_bytes_per_frame'] / 1e3:.0f}" if "disk_bytes_per_frame" in row else ""),
    ("files/scene", lambda row: f"{row['files_per_scene']:.3g}" if "files_per_scene" in row else ""),
    ("deviation", lambda row: f"{row['deviation']:.1e}" if "deviation" in row else ""),
)
"""Heading and cell; columns that are empty in all rows are left out."""


def as_text(record: dict[str, Any]) -> str:
    """Everything, for the terminal."""
    return "\n\n".join([*_paragraphs(record, _aligned), *record.get("said", [])])


def as_markdown(record: dict[str, Any]) -> str:
    """Everything, for a page."""
    return "\n\n".join([*_paragraphs(record, _markdown), *(f"{line}." for line in record.get("said", []))])


def _paragraphs(record: dict[str, Any], draw: Callable[[Sequence[str], Sequence[Sequence[str]]], str]) -> list[str]:
    lines = [machine_line(record)]
    for case in record["cases"]:
        plain = {key: value for key, value in case["facts"].items() if not isinstance(value, dict)}
        facts = ", ".join(f"{key} {_fact(value)}" for key, value in plain.items())
        failed = [f"{name}: {why}" for name, why in (case["failed"] | case.get("slow", {})).items()]
        lines += [f"{case['title']} ({facts})", draw(*cells(case["rows"])), *failed]
    absent = "; ".join(f"{name} ({why})" for name, why in record["absent"].items())
    cut = record.get("cut_short", "")
    return [*lines, *([f"Not here: {absent}"] if absent else []), *([cut] if cut else [])]


def machine_line(record: dict[str, Any]) -> str:
    """Hardware, threads, torch, commit, date, and what has to be said about them."""
    facts = record["provenance"]
    where = facts["gpu"] or f"{facts['cpu']}, {facts['num_cores']} cores, {facts['num_threads']} threads"
    commit = (facts["commit"] or "unknown")[:7]
    load = f"load {min(record['load_average']):.1f} to {max(record['load_average']):.1f}"
    parts = [where, f"torch {facts['packages'].get('torch')}", f"commit {commit}", record["date"][:10], load]
    size = [record["size"]] if record["size"] != "full" else []
    size += [f"only {' and '.join(only)}"] if (only := record.get("only")) else []
    return "; ".join([*parts, *size, *([record["note"]] if record["note"] else [])])


def cells(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headings and lines, without columns that say nothing."""
    full = [[cell(row) for _, cell in COLUMNS] for row in rows]
    kept = [column for column in range(len(COLUMNS)) if any(line[column] for line in full)]
    return [COLUMNS[column][0] for column in kept], [[line[column] for column in kept] for line in full]


def _aligned(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return table(header, lines)


def _markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *lines))


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 99.5 else f"{value:.3g}"


def _ratio(ratio: dict[str, Any] | None) -> str:
    return f"{ratio['median']:.2f} x {ratio['name']}" if ratio else ""


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"


def _fact(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
