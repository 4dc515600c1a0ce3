"""Toy stage that reads a store wherever it lies."""

import json
from dataclasses import dataclass

from lima_core.storage import Location, children, read_bytes
from lima_core.types import Config as Base
from lima_core.types import Resources
from lima_core.whole import write_json

VERSION = 1


class Config(Base):
    fail: bool = False


@dataclass(frozen=True)
class Inputs:
    parts: Location


def run(config: Config, inputs: Inputs, out: Location, resources: Resources) -> dict:
    parts = [path for path in children(inputs.parts) if path.name.startswith("part-")]
    write_json(out / "sum.json", sum(json.loads(read_bytes(path)) for path in parts))
    (out / "logs").mkdir(exist_ok=True)
    if config.fail:
        raise KeyboardInterrupt
    return {"sum": json.loads(read_bytes(out / "sum.json"))}
