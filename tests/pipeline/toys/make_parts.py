"""Toy stage that works where its artifact lies: one file a scene, resumable; another toy's numbers are added."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

from lima_core.storage import Location, is_file
from lima_core.types import Config as Base
from lima_core.types import Resources
from lima_core.whole import write_json

VERSION = 1
REMOTE = True


class Config(Base):
    scenes: int = 3
    pause_s: float = 0.0


@dataclass(frozen=True)
class Inputs:
    numbers: Path | None


def run(config: Config, inputs: Inputs, out: Location, resources: Resources) -> dict:
    read = sorted(inputs.numbers.glob("scene-*.json")) if inputs.numbers else []
    offset = sum(json.loads(path.read_text())["value"] for path in read)
    made = 0
    for scene in range(config.scenes):
        if not is_file(out / f"part-{scene}.json"):
            time.sleep(config.pause_s)
            write_json(out / f"part-{scene}.json", scene + offset)
            made += 1
    return {"scenes": config.scenes, "made": made}
