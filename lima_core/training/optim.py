"""Optimisers and learning-rate schedules as values; the rate is a function of the step, so it needs no resume state.

Defaults are SuperFlow's released pre-training recipe (configs/_base_/schedules/pretrain.py): AdamW 0.01, OneCycle.
Only the rate follows the cycle: momentum stays put, as in mmengine and unlike the default of ``torch``'s OneCycleLR.
Epochs may be fractions, in ``warm_up_epochs`` and the like.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from lima_core.errors import ConfigError
from lima_core.types import Config

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class AdamWConfig(Config):
    """AdamW with decoupled weight decay."""

    name: Literal["adamw"] = "adamw"
    lr: Positive = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: Positive = 1e-6
    weight_decay: float = 0.01
    decay_norms: bool = True
    """False: parameters of one dimension, those of norms and biases, do not decay."""


class SGDConfig(Config):
    """SGD with momentum; defaults are SLidR's (config/slidr_minkunet.yaml) with the rate of its linear probe."""

    name: Literal["sgd"] = "sgd"
    lr: Positive = 0.05
    momentum: float = 0.9
    dampening: float = 0.1
    weight_decay: float = 1e-4
    decay_norms: bool = True
    """As for AdamW."""


OptimConfig = Annotated[AdamWConfig | SGDConfig, Field(discriminator="name")]


class OneCycleConfig(Config):
    """Cosine up to the full rate, cosine down to almost nothing."""

    name: Literal["onecycle"] = "onecycle"
    warm_up: Share = 0.2
    """Share of all steps that rise."""
    start_divisor: Positive = 25.0
    """The first rate is the full one divided by this."""
    end_divisor: Positive = 100.0
    """The last rate is the first one divided by this."""


class CosineConfig(Config):
    """Linear warm-up, then half a cosine (ScaLR: 3500 steps up, ``end_factor`` 0.005)."""

    name: Literal["cosine"] = "cosine"
    warm_up: Share | None = None
    """Share of all steps that rise; give at most one of the three; none: 0.05."""
    warm_up_steps: Annotated[int, Field(ge=0)] | None = None
    warm_up_epochs: NotNegative | None = None
    end_factor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The last rate as a part of the full one."""

    @model_validator(mode="after")
    def _one_warm_up(self) -> "CosineConfig":
        given = [value for value in (self.warm_up, self.warm_up_steps, self.warm_up_epochs) if value is not None]
        if len(given) > 1:
            remedy = "set the others to null"
            raise ConfigError("give one of warm_up, warm_up_steps and warm_up_epochs", where="schedule", remedy=remedy)
        return self


class EpochCosineConfig(Config):
    """Half a cosine in steps of one epoch, without warm-up (SLidR); the last epoch still has some rate."""

    name: Literal["cosine_by_epoch"] = "cosine_by_epoch"
    end_factor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The rate that an epoch after the last would have, as a part of the full one."""


class InverseSqrtConfig(Config):
    """Linear warm-up, then 1/sqrt(1 + t/timescale), then linearly to nothing: ScaLR's branch ``scalr_plus``.

    Its middle part does not depend on the length, so a training can be made longer without a new schedule.
    """

    name: Literal["inverse_sqrt"] = "inverse_sqrt"
    warm_up_epochs: NotNegative = 1.0
    timescale_epochs: Positive = 0.45
    cool_down_epochs: NotNegative = 2.0
    """The last so many epochs fall to 0."""


class ConstantConfig(Config):
    """The full rate from the first step to the last."""

    name: Literal["constant"] = "constant"


AnySchedule = OneCycleConfig | CosineConfig | EpochCosineConfig | InverseSqrtConfig | ConstantConfig
ScheduleConfig = Annotated[AnySchedule, Field(discriminator="name")]


@dataclass(frozen=True)
class ParamGroup:
    """Parameters that share a learning rate."""

    name: str
    params: tuple[nn.Parameter, ...]
    lr_multiplier: float = 1.0


def one_group(module: nn.Module) -> list[ParamGroup]:
    """All trained parameters of ``module`` at the full rate."""
    return [ParamGroup("all", tuple(p for p in module.parameters() if p.requires_grad))]


def build_optimiser(config: AdamWConfig | SGDConfig, groups: Sequence[ParamGroup]) -> torch.optim.Optimizer:
    """The optimiser over ``groups``; a group without parameters is left out.

    torch's fused kernels: on two cores AdamW takes 41 ms for MinkUNet-34's 37.9 M parameters instead of 191 ms.
    """
    params = [part for group in groups for part in _parts(config, group) if part["params"]]
    options = config.model_dump(exclude={"name", "decay_norms"})
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.SGD
    return kind(params, **options, fused=True)


def _parts(config: AdamWConfig | SGDConfig, group: ParamGroup) -> list[dict[str, Any]]:
    """The group as torch wants it, or what decays of it and what does not."""
    rate = config.lr * group.lr_multiplier
    if config.decay_norms:
        return [{"name": group.name, "params": list(group.params), "lr": rate}]
    decayed = {"name": group.name, "params": [p for p in group.params if p.ndim > 1], "lr": rate}
    kept = {"name": f"{group.name}, not decayed", "params": [p for p in group.params if p.ndim < 2], "lr": rate}
    return [decayed, kept | {"weight_decay": 0.0}]


def decayed_groups(stages: Sequence[nn.Module], decay: float) -> list[ParamGroup]:
    """Layer-wise rates: of ``stages``, input to output, the last has ``decay`` times the full rate, each before less.

    So a new head at the full rate follows them, as in ScaLR's fine-tuning (0.95 or 0.99).
    """
    return [
        ParamGroup(f"stage{i}", tuple(stage.parameters()), decay ** (len(stages) - i)) for i, stage in enumerate(stages)
    ]


def rate_factor(config: AnySchedule, step: int, total: int, per_epoch: int) -> float:
    """Factor on every group's full rate in ``step`` (from 0) of ``total``, ``per_epoch`` of which are an epoch."""
    match config:
        case OneCycleConfig():
            return _onecycle(config, step, total)
        case CosineConfig():
            return _cosine_warm(config, step, total, per_epoch)
        case EpochCosineConfig():
            return _cosine(1.0, config.end_factor, step // per_epoch / math.ceil(total / per_epoch))
        case InverseSqrtConfig():
            return _inverse_sqrt(config, step / per_epoch, total / per_epoch, per_epoch)
        case _:
            return 1.0


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def _onecycle(config: OneCycleConfig, step: int, total: int) -> float:
    first = 1 / config.start_divisor
    last = first / config.end_divisor
    peak = config.warm_up * total - 1  # the step of the full rate; both torch and mmengine count this way
    if step <= peak and peak > 0:
        return _cosine(first, 1.0, step / peak)
    return _cosine(1.0, last, (step - peak) / max(total - 1 - peak, 1e-9))


def _cosine_warm(config: CosineConfig, step: int, total: int, per_epoch: int) -> float:
    if config.warm_up_steps is not None:
        rising = config.warm_up_steps
    elif config.warm_up_epochs is not None:
        rising = round(config.warm_up_epochs * per_epoch)
    else:
        rising = round((0.05 if config.warm_up is None else config.warm_up) * total)
    if step < rising:
        return (step + 1) / rising
    return _cosine(1.0, config.end_factor, (step - rising) / max(total - 1 - rising, 1))


def _inverse_sqrt(config: InverseSqrtConfig, epoch: float, epochs: float, per_epoch: int) -> float:
    """``epoch``: time since the start, a fraction; ``epochs``: the whole length."""
    rising = config.warm_up_epochs
    if epoch < rising:
        return min(1.0, (epoch + 1 / per_epoch) / rising)
    left = min(1.0, (epochs - epoch) / config.cool_down_epochs) if config.cool_down_epochs else 1.0
    return left / math.sqrt(1 + (epoch - rising) / config.timescale_epochs)
