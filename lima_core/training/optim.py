"""Optimisers and learning-rate schedules as values; the rate is a function of the step, so it needs no resume state.

Defaults are SuperFlow's released pre-training recipe (configs/_base_/schedules/pretrain.py): AdamW 0.01, OneCycle.
Only the rate follows the cycle: momentum stays put, as in mmengine and unlike the default of ``torch``'s OneCycleLR.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from lima_core.types import Config

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


class AdamWConfig(Config):
    """AdamW with decoupled weight decay on every trained parameter."""

    name: Literal["adamw"] = "adamw"
    lr: Positive = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: Positive = 1e-6
    weight_decay: float = 0.01


class SGDConfig(Config):
    """SGD with momentum; defaults are SLidR's (config/slidr_minkunet.yaml) with the rate of its linear probe."""

    name: Literal["sgd"] = "sgd"
    lr: Positive = 0.05
    momentum: float = 0.9
    dampening: float = 0.1
    weight_decay: float = 1e-4


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
    """Linear warm-up, then half a cosine."""

    name: Literal["cosine"] = "cosine"
    warm_up: Share = 0.05
    """Share of all steps that rise."""
    end_factor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The last rate as a part of the full one."""


class ConstantConfig(Config):
    """The full rate from the first step to the last."""

    name: Literal["constant"] = "constant"


ScheduleConfig = Annotated[OneCycleConfig | CosineConfig | ConstantConfig, Field(discriminator="name")]


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
    """The optimiser over ``groups``; a group without parameters is left out."""
    params = [{"name": g.name, "params": list(g.params), "lr": config.lr * g.lr_multiplier} for g in groups if g.params]
    options = config.model_dump(exclude={"name"})
    return torch.optim.AdamW(params, **options) if config.name == "adamw" else torch.optim.SGD(params, **options)


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def _onecycle(config: OneCycleConfig, step: int, total: int) -> float:
    first = 1 / config.start_divisor
    last = first / config.end_divisor
    peak = config.warm_up * total - 1  # the step of the full rate; both torch and mmengine count this way
    if step <= peak and peak > 0:
        return _cosine(first, 1.0, step / peak)
    return _cosine(1.0, last, (step - peak) / max(total - 1 - peak, 1e-9))


def _cosine_warm(config: CosineConfig, step: int, total: int) -> float:
    rising = round(config.warm_up * total)
    if step < rising:
        return (step + 1) / rising
    return _cosine(1.0, config.end_factor, (step - rising) / max(total - 1 - rising, 1))


def rate_factor(config: OneCycleConfig | CosineConfig | ConstantConfig, step: int, total: int) -> float:
    """Factor on every group's full rate in ``step`` (from 0) of ``total``."""
    if config.name == "onecycle":
        return _onecycle(config, step, total)
    return _cosine_warm(config, step, total) if config.name == "cosine" else 1.0
