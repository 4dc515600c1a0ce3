"""Toy stage: one file a scene, resumable by scene; it can be slow, fail, or wait for a signal file."""

import time
from dataclasses import dataclass
from pathlib import Path

from lima_core.errors import DataError
from lima_core.types import Config as Base
from lima_core.types import Resources
from lima_core.whole import write_json

VERSION = 1


class Config(Base):
    scenes: int = 3
    factor: float = 2.0
    fail: bool = False


@dataclass(frozen=True)
class Inputs:
    raw: Path | None


def run(config: Config, inputs: Inputs, out: Path, resources: Resources) -> dict:
    if config.fail:
        raise DataError("this toy was told to fail", where="toy")
    offset = float((inputs.raw / "offset.txt").read_text()) if inputs.raw else 0.0
    made = 0
    for scene in range(config.scenes):
        part = out / f"scene-{scene}.json"
        if part.exists():
            continue
        if (out.parent / "slow").exists():
            (out.parent / f"at-{scene}").touch()
            time.sleep(0.2)
        write_json(part, {"value": scene * config.factor + offset})
        made += 1
    (out / "logs").mkdir(exist_ok=True)
    (out / "logs" / "made.txt").write_text(str(made))
    return {"scenes": config.scenes, "factor": config.factor}
