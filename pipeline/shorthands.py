"""The command line's short flags as assignments to config fields, so that there is one way to change a config."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from lima_core.errors import ConfigError

DOWNSTREAM = ("finetune", "evaluate", "report")


def assignments(
    stage: str | None,
    *,
    frames: int | None = None,
    method: str | None = None,
    seed: int | None = None,
    task: str | None = None,
    ratio: float | None = None,
    probe: bool | None = None,
    init: str | None = None,
) -> list[str]:
    """``--frames 6`` -> ``build_memory.frames=6``; the downstream flags together replace the list of runs by one.

    Raises:
        ConfigError: a downstream flag with a stage that reads no downstream run.
    """
    fields = {"build_memory.frames": frames, "distill.method.name": method}
    found = [f"{path}={json.dumps(value)}" for path, value in fields.items() if value is not None]
    if seed is not None:
        found.append(f"seeds=[{seed}]")
    wanted = {"task": task, "ratio": ratio, "probe": probe, "inits": [init or "pretrained"]}
    given = [f"--{name}" for name, value in {**wanted, "init": init, "inits": None}.items() if value is not None]
    if given:
        _refuse_elsewhere(stage, given)
        run = {key: value for key, value in wanted.items() if value is not None}
        found.append(f"downstream={json.dumps([run])}")
    return found


def section(name: str, value: object) -> list[str]:
    """Gives the experiment a section that it may leave out, where it does: ``materialize={}``."""
    return [] if value is not None else [f"{name}={{}}"]


def flags(config: Path | None, overrides: Sequence[str], work: Path) -> str:
    """The flags of a command on the same experiment, to be repeated in a message; starts with a space or is empty."""
    words = ["--config", str(config)] if config else []
    words += [word for override in overrides for word in ("--set", override)]
    words += ["--work", str(work)] if work != Path("work") else []
    return f" {shlex.join(words)}" if words else ""


def _refuse_elsewhere(stage: str | None, given: Sequence[str]) -> None:
    if stage not in DOWNSTREAM:
        raise ConfigError(f"{', '.join(given)} belongs to lima stage finetune", where=f"lima stage {stage}")
