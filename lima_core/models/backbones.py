"""Backbones: minkunet. To add one: a file with its config and builder, and a line in each of these two."""

from functools import cache

import torch
from torch import nn

from lima_core.models.minkunet import MinkUNetConfig, build_minkunet

BackboneConfig = MinkUNetConfig
"""Union of the backbones' configs, told apart by ``name``; a union of one is its member."""


def build_backbone(config: BackboneConfig, in_channels: int, engine: str = "native", seed: int = 0) -> nn.Module:
    """A fresh backbone on the CPU.

    Args:
        config: which one, and its sizes.
        in_channels: channels of the input features.
        engine: a resolved sparse engine (``lima_core.sparse.resolve_engine``); it changes no parameter.
        seed: the weights are a function of it and of their names.

    Returns:
        A module with ``out_channels``, from a SparseTensor at stride 1 with ``in_channels`` to one on the same voxels
        in the same order with ``out_channels``.
    """
    return build_minkunet(config, in_channels, engine, seed)


@cache
def num_parameters(config: BackboneConfig, in_channels: int) -> int:
    """Parameters of a backbone, counted without making their values: plans ask for every training."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_backbone(config, in_channels).parameters())
