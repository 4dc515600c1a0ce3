"""Which weights of a training are kept: checkpoints on the way, and the best by a rule that was declared before."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import nn

from lima_core.errors import DataError
from lima_core.training.checkpoint import plain_tensors
from lima_core.training.config import KeepConfig
from lima_core.training.resume import FOLDER, Curve
from lima_core.types import Config
from lima_core.whole import appears_whole, remove

KEPT = "checkpoints"


class SelectionConfig(Config):
    """Which epoch's weights are the result. Never one that the scored split chose."""

    rule: Literal["last", "best"] = "last"
    """``best``: by ``metric`` on scenes of the training split that are held out; of equals the first."""
    heldout: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training scenes that are held out, for the rule ``best``."""
    metric: Literal["miou"] = "miou"
    every: Annotated[int, Field(ge=1)] = 1
    """Epochs from one look at the held-out scenes to the next; the last step is always looked at."""


@dataclass(frozen=True)
class Validation:
    """How good the module is, asked while it trains."""

    measure: Callable[[], dict[str, float]]
    """Called in every process at once, with the module in eval mode; all must return the same. Its numbers enter the
    curve."""
    every_epochs: int
    choose_by: str
    """The number whose largest value chooses the weights."""


def is_due(step: int, steps: int, every: int) -> bool:
    """After ``step`` (from 0): a multiple of ``every`` steps is done, or all of them."""
    return (step + 1) % every == 0 or step + 1 == steps


def keep(out: Path, done: int, config: KeepConfig, save: Callable[[Path], None]) -> None:
    """Writes ``<out>/checkpoints/step-<done>/`` by ``save`` so that it appears whole, and removes the oldest."""
    path = out / KEPT / f"step-{done:07d}"
    remove(path)
    with appears_whole(path) as partial:
        partial.mkdir()
        save(partial)
    for old in sorted(path.parent.glob("step-*[0-9]"))[: -config.keep_last]:
        remove(old)


def best_step(curve: Curve, name: str) -> int:
    """The step, from 1, whose number ``name`` is the largest; of equals the first.

    Raises:
        DataError: it was never a number.
    """
    rows = [row for row in curve.rows if not math.isnan(row.get(name, math.nan))]
    if not rows:
        raise DataError(f"{name} was never defined", remedy="hold out scenes that have labelled points")
    return int(max(rows, key=lambda row: row[name])["step"])


def _best_path(out: Path, done: int) -> Path:
    return out / FOLDER / f"best-{done:07d}.safetensors"


def save_best(out: Path, done: int, module: nn.Module) -> None:
    """Keeps the weights after ``done`` steps as long as the training may be resumed."""
    with appears_whole(_best_path(out, done)) as partial:
        save_file(plain_tensors(module.state_dict()), partial)


def load_best(out: Path, done: int, module: nn.Module) -> None:
    """Puts the weights after ``done`` steps back."""
    module.load_state_dict(load_file(_best_path(out, done)))


def forget_worse(out: Path, curve: Curve, name: str) -> None:
    """Removes all of ``save_best`` but the best so far; called after the resume state is written, never before."""
    if any(not math.isnan(row.get(name, math.nan)) for row in curve.rows):
        best = _best_path(out, best_step(curve, name))
        for path in best.parent.glob("best-*.safetensors"):
            if path != best:
                remove(path)
