"""Writes the tables of docs/benchmarks.md and docs/stores.md anew from the records in benchmarks/results.

python -m benchmarks.page

Between ``<!-- records: SUBJECT -->`` and ``<!-- end -->`` goes, for every hardware, its newest record of the subject at
full size. A record of some contestants or of some cases is taken only where there is none of all.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.bench.record import SCHEMA
from pipeline.bench.text import as_markdown

ROOT = Path(__file__).parents[1]
PAGE, RESULTS = ROOT / "docs" / "benchmarks.md", ROOT / "benchmarks" / "results"
PAGES = (PAGE, ROOT / "docs" / "stores.md")
PLACE = re.compile(r"(<!-- records: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str, files: Iterable[Path]) -> str:
    """The page with the tables of the records among ``files``."""
    newest = newest_records(files)
    return PLACE.sub(lambda place: place[1] + _of_subject(newest, place[2]) + place[3], page)


def newest_records(files: Iterable[Path]) -> dict[tuple[str, str], tuple[str, dict[str, Any]]]:
    """By subject and hardware, as the file's name has it: name and content of the newest of the fullest."""
    found: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    for path in files:
        record = json.loads(path.read_text())
        if not isinstance(record, dict) or record.get("schema") != SCHEMA or record["size"] != "full":
            continue  # results of older scripts lie beside
        key = (record["subject"], path.name.partition("_")[0])
        if key not in found or _rank(record) > _rank(found[key][1]):
            found[key] = (path.name, record)
    return found


def _rank(record: dict[str, Any]) -> tuple[bool, bool, str]:
    return not record.get("only"), "cut_short" not in record, record["date"]


def _of_subject(newest: dict[tuple[str, str], tuple[str, dict[str, Any]]], subject: str) -> str:
    of_subject = [newest[key] for key in sorted(newest) if key[0] == subject]
    texts = [f"*`{name}`*: {as_markdown(record)}" for name, record in of_subject]
    return "".join(f"\n{text}\n\n" for text in texts or ["Not measured yet."])


def main() -> None:
    """Rewrites the pages."""
    for page in PAGES:
        page.write_text(filled(page.read_text(), sorted(RESULTS.glob("*.json"))))
        print(f"{page.relative_to(ROOT)} is up to date")


if __name__ == "__main__":
    main()
