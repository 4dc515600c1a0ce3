"""Training scenes that are not trained on, so that an epoch can be chosen without a look at the scored split."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from lima_core.errors import ConfigError, DataError
from lima_core.loading.subsets import Subset
from lima_core.seeds import derive
from lima_core.types import IGNORE, Frame


def hold_out(subset: Subset, share: float) -> tuple[Subset, tuple[Frame, ...]]:
    """The frames to train on, and those of the held-out scenes: round(share * scenes), at least one, never all.

    Which scenes those are depends on their names only, so all seeds, methods and starts are judged on the same ones.

    Raises:
        ConfigError: there is one scene only.
    """
    scenes = sorted({frame.scene for frame in subset.frames}, key=lambda scene: derive(0, "held out", scene))
    if len(scenes) < 2:
        remedy = "use selection.rule: last, or a larger subset"
        raise ConfigError(f"of {len(scenes)} training scene none can be held out", where="selection", remedy=remedy)
    held = set(scenes[: min(len(scenes) - 1, max(1, round(share * len(scenes))))])
    trained = tuple(frame for frame in subset.frames if frame.scene not in held)
    return replace(subset, frames=trained), tuple(frame for frame in subset.frames if frame.scene in held)


def require_labelled(heldout: Sequence[Frame], load_labels: Callable[[Frame], np.ndarray]) -> None:
    """Looks, before anything is trained, whether the held-out scenes can be scored; reads until a point has a class.

    Args:
        heldout: their frames.
        load_labels: (N,) train ids of a frame, IGNORE where a point has none.

    Raises:
        DataError: no point of ``heldout`` has a class.
    """
    if not any((load_labels(frame) != IGNORE).any() for frame in heldout):
        scenes = ", ".join(sorted({frame.scene for frame in heldout})[:8])
        remedy = "use selection.rule: last, or another selection.heldout or subset"
        raise DataError("no point of the held-out scenes has a class", where=f"selection: {scenes}", remedy=remedy)


def scenes_hash(frames: Sequence[Frame]) -> str:
    """First 16 hex digits of the sha256 of the frames' scene names, sorted, one a line."""
    names = sorted({frame.scene for frame in frames})
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()[:16]
