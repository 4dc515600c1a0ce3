"""Heads: from backbone features to the teacher's channels, or to classes, row by row.

A head sees (V, C) features, not voxels, so one head serves every backbone and may run after the inverse map on points.
"""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import nn

from lima_core.seeds import torch_rng
from lima_core.types import Config


class LinearHeadConfig(Config):
    """One linear layer with bias (SLidR, SuperFlow, ScaLR)."""

    name: Literal["linear"] = "linear"


class MlpHeadConfig(Config):
    """Linear, ReLU, linear (ScaLR's ``scalr_plus`` branch; 2048 hidden channels there)."""

    name: Literal["mlp"] = "mlp"
    hidden: PositiveInt = 2048


HeadConfig = Annotated[LinearHeadConfig | MlpHeadConfig, Field(discriminator="name")]


def build_head(
    config: LinearHeadConfig | MlpHeadConfig, in_channels: int, out_channels: int, seed: int = 0
) -> nn.Module:
    """A fresh head from (V, in_channels) to (V, out_channels).

    Weights and biases are uniform in +-1/sqrt(fan in), the default of ``nn.Linear``, drawn from ``seed`` and name.
    """
    if isinstance(config, LinearHeadConfig):
        head = nn.Sequential(nn.Linear(in_channels, out_channels))
    else:
        head = nn.Sequential(
            nn.Linear(in_channels, config.hidden), nn.ReLU(inplace=True), nn.Linear(config.hidden, out_channels)
        )
    for name, layer in head.named_children():
        if isinstance(layer, nn.Linear):
            _initialise(layer, torch_rng(seed, "head", name))
    return head


@torch.no_grad()
def _initialise(layer: nn.Linear, generator: torch.Generator) -> None:
    bound = 1.0 / math.sqrt(layer.in_features)
    layer.weight.uniform_(-bound, bound, generator=generator)
    layer.bias.uniform_(-bound, bound, generator=generator)
