"""Toy stage that trains: a number after so many steps, and a state to go on from after each of them."""

import json
from dataclasses import dataclass
from pathlib import Path

from lima_core.types import Config as Base
from lima_core.types import Resources
from lima_core.whole import write_json

VERSION = 1


class Config(Base):
    steps: int = 4


@dataclass(frozen=True)
class Inputs:
    pass


def run(config: Config, inputs: Inputs, out: Path, resources: Resources) -> dict:
    state = out / "resume" / "state.json"
    done = first = json.loads(state.read_text()) if state.exists() else 0
    while done < config.steps:
        done += 1
        with (out.parent / "steps.txt").open("a") as file:
            file.write(f"{done}\n")
        write_json(state, done)
    write_json(out / "weights.json", 7 * done)
    return {"trained": done - first}
