"""Which training frames a label fraction means. The peers mean different things by "1 %", so a subset is a value.

SLidR and CSC (and SuperFlow's released lists) take whole scenes: walk the scenes of the split in file order, count from
1, keep those whose count is a multiple of n (SLidR: downstream/dataloader_nuscenes.py). SemanticKITTI's 1 % are single
frames: every n-th of the sorted list, the first included (downstream/dataloader_kitti.py). n = round(1 / ratio).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from lima_core.errors import ConfigError, DataError, did_you_mean
from lima_core.types import Config, Frame

Rule = Literal["every_nth_scene", "every_nth_frame", "listed"]


class SubsetConfig(Config):
    """A share of the labelled training frames."""

    rule: Rule = "every_nth_scene"
    ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of scenes (or frames); with ``listed`` only what the scores call it."""
    listed: tuple[str, ...] = ()
    """Scene names or frame tokens, for the rule ``listed``."""


@dataclass(frozen=True)
class Subset:
    """The frames to train on."""

    rule: Rule
    ratio: float
    frames: tuple[Frame, ...]
    """In file order."""

    @property
    def hash(self) -> str:
        """First 16 hex digits of the sha256 of the frame tokens, one a line."""
        return hashlib.sha256("".join(f"{frame.token}\n" for frame in self.frames).encode()).hexdigest()[:16]

    @property
    def num_scenes(self) -> int:
        """Scenes with a frame in the subset."""
        return len({frame.scene for frame in self.frames})


def every_nth(ratio: float) -> int:
    """n, where ``ratio`` is 1 / n.

    Raises:
        ConfigError: it is not, so that the score would carry another share than was trained on.
    """
    every = round(1 / ratio)
    if abs(every * ratio - 1) > 0.02:
        below, above = 1 / (int(1 / ratio) + 1), 1 / int(1 / ratio)
        remedy = f"the nearest are {below:.4g} and {above:.4g}; or list scenes with rule: listed"
        raise ConfigError(f"ratio {ratio:g} is not one n-th of the scenes", where="subset.ratio", remedy=remedy)
    return every


def nth_scenes(scenes: Sequence[str], ratio: float) -> list[str]:
    """Scenes whose count, from 1 in file order, is a multiple of n; where that is none, the last scene.

    So a world with fewer than n scenes still has a subset, and it is a scene that a longer list would keep last.
    """
    every = every_nth(ratio)
    return [scene for count, scene in enumerate(scenes, start=1) if count % every == 0] or list(scenes[-1:])


def subset_frames(lengths: Sequence[int], config: SubsetConfig) -> int:
    """How many frames ``take_subset`` takes of labelled scenes of these lengths; what is listed is guessed by ratio."""
    if config.rule == "every_nth_scene":
        return sum(lengths[int(i)] for i in nth_scenes([str(i) for i in range(len(lengths))], config.ratio))
    if config.rule == "every_nth_frame":
        return len(range(0, sum(lengths), every_nth(config.ratio)))
    return max(1, round(config.ratio * sum(lengths)))


def _listed(frames: Sequence[Frame], listed: Sequence[str]) -> list[Frame]:
    known = {frame.scene for frame in frames} | {frame.token for frame in frames}
    for name in listed:
        if name not in known:
            remedy = did_you_mean(name, {frame.scene for frame in frames})
            raise ConfigError(f"subset lists {name!r}, which is no labelled training scene or frame", remedy=remedy)
    wanted = set(listed)
    return [frame for frame in frames if frame.scene in wanted or frame.token in wanted]


def take_subset(frames: Sequence[Frame], config: SubsetConfig) -> Subset:
    """The labelled frames of ``frames`` (one split, file order) that ``config`` means.

    Raises:
        DataError: no frame has labels.
        ConfigError: a listed name is unknown, or none is listed.
    """
    labelled = [frame for frame in frames if frame.labels is not None]
    if not labelled:
        raise DataError(
            "no labelled frame in the training split", remedy="install the labels or choose another data set"
        )
    if config.rule == "every_nth_scene":
        kept = set(nth_scenes(list(dict.fromkeys(frame.scene for frame in labelled)), config.ratio))
        chosen = [frame for frame in labelled if frame.scene in kept]
    elif config.rule == "every_nth_frame":
        chosen = labelled[:: every_nth(config.ratio)]
    else:
        chosen = _listed(labelled, config.listed)
    if not chosen:
        raise ConfigError("subset rule 'listed' without a name", remedy="give subset.listed")
    return Subset(config.rule, config.ratio, tuple(chosen))
