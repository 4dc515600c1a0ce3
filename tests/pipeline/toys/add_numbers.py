"""Toy stage: the sum of what make_numbers wrote."""

import json
from dataclasses import dataclass
from pathlib import Path

from lima_core.types import Config as Base
from lima_core.types import Resources
from lima_core.whole import write_json

VERSION = 3


class Config(Base):
    start: float = 0.0


@dataclass(frozen=True)
class Inputs:
    numbers: Path
    extra: dict[str, Path] | None


def run(config: Config, inputs: Inputs, out: Path, resources: Resources) -> dict:
    values = [json.loads(path.read_text())["value"] for path in sorted(inputs.numbers.glob("scene-*.json"))]
    write_json(out / "sum.json", config.start + sum(values))
    return {"sum": config.start + sum(values), "missing": float("nan")}
