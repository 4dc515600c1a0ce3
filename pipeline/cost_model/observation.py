"""From what a stage took once to what it will take: scaled by the shape of its own rule of thumb.

One observation corrects the level of the rule. Two of different size, as a calibration makes, also tell what is paid
once and what is paid for every frame or step.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

from lima_core.cost import Cost, Scale, SceneScale
from lima_core.types import Config, Resources


@dataclass(frozen=True)
class Observation:
    """What a stage once took, and for how much."""

    config: Config
    scale: Scale
    resources: Resources
    disk_bytes: int
    seconds: float
    memory_bytes: int | None = None
    """Peak of all processes together, or of the GPU; None where nobody looked."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"config": self.config.model_dump(mode="json")}

    @staticmethod
    def from_json(values: dict[str, Any], stage: ModuleType) -> "Observation":
        """The inverse.

        Raises:
            KeyError, TypeError, ValueError: it is none, or of a config that ``stage`` no longer knows.
        """
        scenes = tuple(SceneScale(**scene) for scene in values["scale"]["scenes"])
        image_size_px = tuple(values["scale"]["image_size_px"])
        scale = Scale(**values["scale"] | {"scenes": scenes, "image_size_px": image_size_px})
        config, resources = config_from(values["config"], stage), Resources(**values["resources"])
        return Observation(**values | {"scale": scale, "config": config, "resources": resources})


def config_from(values: dict[str, Any], stage: ModuleType) -> Config:
    """A stage's config from plain values; a ValueError where they do not fit."""
    return stage.Config.model_validate_json(json.dumps(values))


def predict(
    stage: ModuleType, config: Config, scale: Scale, resources: Resources, seen: Sequence[Observation], source: str
) -> Cost:
    """What the stage will take.

    Args:
        stage: offers ``estimate``.
        config: of the artifact to be.
        scale: of its data.
        resources: with which it will run.
        seen: one observation, or a smaller and a larger one.
        source: what ``Cost.source`` will say.
    """
    rule = stage.estimate(config, scale, resources)
    rules = [stage.estimate(each.config, each.scale, each.resources) for each in seen]
    if Cost() in (rule, *rules):  # then it is taken to grow with the frames
        rule, *rules = [Cost(of.num_frames, None, of.num_frames) for of in (scale, *[each.scale for each in seen])]
    disk = line([cost.disk_bytes for cost in rules], [each.disk_bytes for each in seen], rule.disk_bytes)
    return Cost(
        disk_bytes=None if disk is None else round(disk),
        memory_bytes=_memory(rule, rules[-1], seen[-1].memory_bytes),
        seconds=line([cost.seconds for cost in rules], [each.seconds for each in seen], rule.seconds),
        passing_bytes=rule.passing_bytes,
        source=source,
    )


def line(ruled: Sequence[float | None], found: Sequence[float], wanted: float | None) -> float | None:
    """What ``wanted``, by the rule, really is, through the larger observation.

    Its slope is that of the line through both; where they do not tell (equal, or the larger took less), that of the
    line through zero. Without a rule it is what was found.

    Args:
        ruled: what the rule says of each observation.
        found: what each took.
        wanted: what the rule says of the case that is asked for.
    """
    if wanted is None or ruled[-1] is None or not ruled[-1]:
        return found[-1] if found else None
    slope = found[-1] / ruled[-1]
    if len(found) == 2 and ruled[0] is not None and ruled[1] > ruled[0] and found[1] > found[0]:
        slope = (found[1] - found[0]) / (ruled[1] - ruled[0])
    return max(0.0, found[-1] + slope * (wanted - ruled[-1]))


def _memory(rule: Cost, ruled: Cost, found: int | None) -> int | None:
    """The measured peak, and what the rule says that more data adds to it."""
    if found is None:
        return rule.memory_bytes
    return found + max(0, (rule.memory_bytes or 0) - (ruled.memory_bytes or 0))
