"""MinkUNet: a sparse residual U-Net; the default is MinkUNet-34 as SuperFlow and LiMoE build it, 37 873 280 parameters.

Layer by layer that of SuperFlow's superflow/models/backbones/minkunet.py. Its relatives, as fields:

- SLidR (Res16UNet34C): ``inputs: [3]``, ``stem_kernels: [3]``, ``block_bn_momentum: 0.1``; 37 842 976 parameters;
- mmdetection3d (MinkUNetBackbone): ``bn_momentum: 0.1``, or as its config says;
- Pointcept (SpUNet-v1m1): ``stem_kernels: [5]``, ``widen: downsampling``, ``bn_eps: 1e-3``, ``bn_momentum: 0.01``.

Every convolution is followed by batch normalisation; none has a bias.
"""

from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import nn

from lima_core.errors import ConfigError
from lima_core.models.recompute import recomputed
from lima_core.sparse.layers import Downsample, SparseConv3d, SparseReLU, Upsample, initialise
from lima_core.sparse.norm import SparseBatchNorm
from lima_core.sparse.tensor import SparseTensor, concatenate
from lima_core.types import Config

Momentum = Annotated[float, Field(gt=0, le=1)]
OddKernel = Literal[1, 3, 5]
"""A kernel of 7 would cost 343 products a voxel."""


class MinkUNetConfig(Config):
    """Widths and depths; one entry per stage, as many stages up as down."""

    name: Literal["minkunet"] = "minkunet"
    inputs: tuple[NonNegativeInt, ...] | None = Field(default=None, min_length=1)
    """Columns of the features that the network sees; null: all. SLidR sees the intensity alone, the last of 4."""
    stem: PositiveInt = 32
    """Channels of the convolutions at full resolution."""
    stem_kernels: tuple[OddKernel, ...] = Field(default=(3, 3), min_length=1)
    """Edges of their kernels, one for each: SLidR has one convolution there, Pointcept one of 5^3."""
    encoder_widths: tuple[PositiveInt, ...] = Field(default=(32, 64, 128, 256), min_length=1)
    encoder_blocks: tuple[PositiveInt, ...] = Field(default=(2, 3, 4, 6), min_length=1)
    widen: Literal["blocks", "downsampling"] = "blocks"
    """Where an encoder stage takes its width: in its first block, or (Pointcept) in the convolution before."""
    decoder_widths: tuple[PositiveInt, ...] = Field(default=(256, 128, 96, 96), min_length=1)
    """From the coarsest stage up; the last is the backbone's number of output channels."""
    decoder_blocks: tuple[PositiveInt, ...] = Field(default=(2, 2, 2, 2), min_length=1)
    bn_momentum: Momentum = 0.05
    """Share of the new batch in the running statistics; SuperFlow: 0.05 in pretraining, 0.02 downstream."""
    block_bn_momentum: Momentum | None = None
    """Of the 3^3 convolutions of residual blocks, where it differs: SLidR 0.1, whatever ``bn_momentum``."""
    bn_eps: float = Field(default=1e-5, gt=0)

    @model_validator(mode="after")
    def _as_many_up_as_down(self) -> "MinkUNetConfig":
        lengths = [len(self.encoder_widths), len(self.encoder_blocks), len(self.decoder_widths)]
        if {*lengths, len(self.decoder_blocks)} != {lengths[0]}:
            raise ValueError("encoder_widths, encoder_blocks, decoder_widths and decoder_blocks must be equally long")
        return self


class Shared(NamedTuple):
    """What all layers of one network share."""

    engine: str
    momentum: float
    block_momentum: float
    eps: float


class ConvNorm(nn.Sequential):
    """A convolution, batch normalisation, and ReLU unless ``relu`` is False."""

    def __init__(self, conv: nn.Module, out_channels: int, momentum: float, eps: float, *, relu: bool = True) -> None:
        super().__init__(conv, SparseBatchNorm(out_channels, momentum, eps), *([SparseReLU()] if relu else []))


class ResidualBlock(nn.Module):
    """Two 3^3 convolutions beside a shortcut, which is a 1^3 convolution where the width changes."""

    recompute = False
    """Keep the input alone for the backward pass and compute the rest again there (``lima_core.models.recompute``)."""

    def __init__(self, in_channels: int, out_channels: int, shared: Shared) -> None:
        super().__init__()

        def conv(channels: int, kernel: int, momentum: float, relu: bool) -> ConvNorm:
            layer = SparseConv3d(channels, out_channels, kernel, shared.engine)
            return ConvNorm(layer, out_channels, momentum, shared.eps, relu=relu)

        self.first = conv(in_channels, 3, shared.block_momentum, True)
        self.second = conv(out_channels, 3, shared.block_momentum, False)
        self.shortcut = nn.Identity() if in_channels == out_channels else conv(in_channels, 1, shared.momentum, False)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """C_in channels to C_out on the same voxels."""
        if self.recompute and torch.is_grad_enabled():
            return recomputed(self, self._forward, x)
        return self._forward(x)

    def _forward(self, x: SparseTensor) -> SparseTensor:
        summed = self.second(self.first(x)).features + self.shortcut(x).features
        return x.replace(summed.relu_())


def _stage(in_channels: int, out_channels: int, depth: int, shared: Shared) -> nn.Sequential:
    widths = [in_channels] + [out_channels] * depth
    return nn.Sequential(*[ResidualBlock(widths[i], widths[i + 1], shared) for i in range(depth)])


def _seen(config: MinkUNetConfig, in_channels: int) -> tuple[int, ...] | None:
    """Columns that the network sees, None for all; ConfigError for one that is not there."""
    if config.inputs and max(config.inputs) >= in_channels:
        what = f"inputs {list(config.inputs)} of features with {in_channels} columns"
        raise ConfigError(what, where="backbone", remedy=f"count from 0 to {in_channels - 1}")
    return config.inputs


def _stem(in_channels: int, config: MinkUNetConfig, shared: Shared) -> nn.Sequential:
    widths = [in_channels] + [config.stem] * len(config.stem_kernels)
    layers = [
        SparseConv3d(widths[i], config.stem, kernel, shared.engine) for i, kernel in enumerate(config.stem_kernels)
    ]
    return nn.Sequential(*[ConvNorm(layer, config.stem, shared.momentum, shared.eps) for layer in layers])


def _down_stage(below: int, width: int, depth: int, config: MinkUNetConfig, shared: Shared) -> nn.Sequential:
    kept = width if config.widen == "downsampling" else below
    down = ConvNorm(Downsample(below, kept, shared.engine), kept, shared.momentum, shared.eps)
    return nn.Sequential(down, _stage(kept, width, depth, shared))


class UpStage(nn.Module):
    """One step up: transposed convolution, the encoder's features of that level beside it, residual blocks."""

    def __init__(self, widths: tuple[int, int, int], depth: int, shared: Shared) -> None:
        """``widths``: channels from below, of the skip connection, and out."""
        super().__init__()
        below, skip, out = widths
        self.up = ConvNorm(Upsample(below, out, shared.engine), out, shared.momentum, shared.eps)
        self.blocks = _stage(out + skip, out, depth, shared)

    def forward(self, x: SparseTensor, skip: SparseTensor) -> SparseTensor:
        """From stride 2 s to the voxels of ``skip`` at stride s."""
        return self.blocks(concatenate(self.up(x), skip))


class MinkUNet(nn.Module):
    """The U-Net; input and output are on the same voxels, in the same order."""

    def __init__(self, config: MinkUNetConfig, in_channels: int, engine: str = "native") -> None:
        super().__init__()
        shared = Shared(engine, config.bn_momentum, config.block_bn_momentum or config.bn_momentum, config.bn_eps)
        skips = (config.stem, *config.encoder_widths[:-1])
        self.in_channels, self.out_channels = in_channels, config.decoder_widths[-1]
        seen = _seen(config, in_channels)
        self.register_buffer("columns", None if seen is None else torch.tensor(seen), persistent=False)
        self.stem = _stem(len(seen or range(in_channels)), config, shared)
        self.encoder = nn.ModuleList(
            _down_stage(below, width, depth, config, shared)
            for below, width, depth in zip(skips, config.encoder_widths, config.encoder_blocks, strict=True)
        )
        below = (config.encoder_widths[-1], *config.decoder_widths[:-1])
        self.decoder = nn.ModuleList(
            UpStage(widths, depth, shared)
            for *widths, depth in zip(below, skips[::-1], config.decoder_widths, config.decoder_blocks, strict=True)
        )

    def stages(self) -> list[nn.Module]:
        """Its parts from input to output, for rates that grow with depth."""
        return [self.stem, *self.encoder, *self.decoder]

    def forward(self, x: SparseTensor) -> SparseTensor:
        """``in_channels`` to ``out_channels``.

        Args:
            x: stride 1, V voxels; V may be 0.

        Returns:
            A tensor with the coordinates and the row order of ``x``.
        """
        x = self.stem(x if self.columns is None else x.replace(x.features.index_select(1, self.columns)))
        skips = []
        for stage in self.encoder:
            skips.append(x)
            x = stage(x)
        for stage in self.decoder:
            x = stage(x, skips.pop())
        return x


def build_minkunet(config: MinkUNetConfig, in_channels: int, engine: str, seed: int) -> MinkUNet:
    """A fresh network; its weights are a function of ``seed`` and of their names."""
    network = MinkUNet(config, in_channels, engine)
    initialise(network, seed)
    return network
