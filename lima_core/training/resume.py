"""Resume state of a training: one safetensors file, replaced in one step; facts are JSON in its header."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lima_core.errors import CheckpointError
from lima_core.training.checkpoint import plain_tensors, require_match
from lima_core.training.ema import Ema
from lima_core.whole import appears_whole

FOLDER, STATE = "resume", "state.safetensors"


@dataclass
class Curve:
    """What every step so far had to report; no times, so that it is the same however often the run was stopped."""

    rows: list[dict[str, float]] = field(default_factory=list)

    def columns(self) -> dict[str, np.ndarray]:
        """Column name to (steps,) float64; NaN where a step did not report that number."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        return {name: np.array([row.get(name, np.nan) for row in self.rows], dtype=np.float64) for name in names}

    @classmethod
    def from_columns(cls, columns: dict[str, np.ndarray]) -> "Curve":
        """The inverse of ``columns``."""
        length = len(next(iter(columns.values()), ()))
        rows = [{name: float(column[i]) for name, column in columns.items()} for i in range(length)]
        return cls([{name: value for name, value in row.items() if not np.isnan(value)} for row in rows])


def flat_optimiser(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """All state tensors of the optimiser by ``<parameter number>/<name>``."""
    state = optimiser.state_dict()["state"]
    return {f"{i}/{key}": value for i, entry in state.items() for key, value in entry.items() if value is not None}


def fill_optimiser(optimiser: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    """Puts tensors of ``flat_optimiser`` back."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in flat.items():
        number, key = name.split("/", 1)
        state.setdefault(int(number), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


@dataclass
class State:
    """Everything that a training changes."""

    module: nn.Module
    optimiser: torch.optim.Optimizer
    ema: Ema | None
    identity: dict[str, Any]
    """What must be the same for the training to go on."""
    done: int = 0
    """Finished steps."""
    curve: Curve = field(default_factory=Curve)


def save_state(out: Path, state: State) -> None:
    """Writes the state to ``<out>/resume/`` in place of the older one."""
    tensors = {f"module/{name}": value for name, value in state.module.state_dict().items()}
    tensors |= {f"optimiser/{name}": value for name, value in flat_optimiser(state.optimiser).items()}
    if state.ema:
        tensors |= {f"ema/{name}": value for name, value in state.ema.tensors.items()}
    columns = state.curve.columns()
    tensors |= {f"curve/{name}": torch.from_numpy(column) for name, column in columns.items()}
    facts = {"step": state.done, "identity": state.identity, "curve": list(columns)}
    with appears_whole(out / FOLDER / STATE) as partial:
        save_file(plain_tensors(tensors), partial, metadata={"facts": json.dumps(facts, sort_keys=True)})


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def _differences(stored: Any, wanted: Any, at: str = "") -> list[str]:
    if isinstance(stored, dict) and isinstance(wanted, dict):
        names = sorted(stored.keys() | wanted.keys())
        return [line for n in names for line in _differences(stored.get(n), wanted.get(n), f"{at}.{n}" if at else n)]
    return [] if stored == wanted else [f"{at}: {stored} -> {wanted}"]


def load_state(out: Path, state: State) -> None:
    """Continues from ``<out>/resume/``: fills ``state``, which stays as it is where there is nothing to continue from.

    Raises:
        CheckpointError: what is there is unreadable, of another recipe or of another architecture.
    """
    path = out / FOLDER / STATE
    if not path.exists():
        return
    remedy = f"remove {path.parent} to start over"
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, TypeError, KeyError) as error:
        raise CheckpointError(f"unreadable resume state: {error}", where=path, remedy=remedy) from error
    changed = _differences(facts["identity"], json.loads(json.dumps(state.identity)))
    if changed:
        raise CheckpointError(f"resume state of another recipe: {changed[0]}", where=path, remedy=remedy)
    stored = _part(tensors, "module/")
    require_match(stored, state.module.state_dict(), path)
    state.module.load_state_dict(stored)
    fill_optimiser(state.optimiser, _part(tensors, "optimiser/"))
    if state.ema:
        for name, value in _part(tensors, "ema/").items():
            state.ema.tensors[name].copy_(value)
    columns = _part(tensors, "curve/")
    state.done = facts["step"]
    state.curve = Curve.from_columns({name: columns[name].numpy() for name in facts["curve"]})
