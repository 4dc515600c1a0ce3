"""What a MinkUNet of another project calls its layers; ours is a dialect too.

``layers`` lists the layers of a network in one order for every dialect, so two of them side by side are a name map.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from lima_core.geometry.voxels import CartesianGrid, CylindricalGrid
from lima_core.models.foreign.kernels import Layout
from lima_core.models.minkunet import MinkUNetConfig


class Layer(NamedTuple):
    """A convolution and the batch normalisation after it."""

    weight: str
    """Name of the convolution's weight."""
    norm: str
    """Name of the ``nn.BatchNorm1d``: its five tensors are ``<norm>.weight`` and so on."""


class Head(NamedTuple):
    """A linear layer from the backbone's channels to classes or features."""

    weight: str
    bias: str
    inside: bool = False
    """Named from the backbone's prefix on; else from what is left of that prefix without its last word."""
    convolution: bool = False
    """A 1^3 convolution (in the dialect's layout), not an ``nn.Linear`` (C_out, C_in)."""


class Block(NamedTuple):
    """The convolutions of a residual block, named from its prefix on."""

    first: Layer
    second: Layer
    shortcut: Layer


@dataclass(frozen=True)
class Dialect:
    """Names, layout of kernels, and what the file does not say but its project's configs do."""

    name: str
    layouts: tuple[Layout, ...]
    """Those that occur, the usual one first; ours has none."""
    stem: Callable[[int], Layer]
    """Convolution i at full resolution."""
    down: Callable[[int], Layer]
    """Into encoder stage s."""
    encoder: Callable[[int, int], str]
    """Prefix of block b of encoder stage s."""
    up: Callable[[int, int], Layer]
    """Into decoder stage s, 0 the coarsest, of n stages."""
    decoder: Callable[[int, int, int], str]
    """Prefix of block b of decoder stage s of n stages."""
    block: Block
    heads: tuple[Head, ...]
    """Of a student, of a segmentation model, and others that occur."""
    voxels: CartesianGrid | CylindricalGrid
    """As the project's own config for outdoor scans has them."""
    prefixes: tuple[str, str] = ("", "")
    """What its project puts before the names of a student's backbone, and of a segmentation model's."""
    inputs: tuple[int, ...] | None = None
    """Columns of x y z intensity that its data loading gives; None: all."""
    stems: tuple[tuple[int, ...], ...] = ((3, 3),)
    """Kernels of the stem that its code can build."""
    stages: int | None = None
    """Number of stages that its code can build; None: any."""
    widen: Literal["blocks", "downsampling"] = "blocks"
    bn_eps: float = 1e-5
    block_bn_momentum: float | None = None
    """Of residual blocks, where its code fixes it; no file says, and on export nothing is lost."""


class Place(NamedTuple):
    """A layer, and how large its kernel is."""

    layer: Layer
    kernel: int
    """Edge."""


def layers(config: MinkUNetConfig, dialect: Dialect) -> Iterator[Place]:
    """All layers of a network, from the stem to the last decoder stage."""
    for i, kernel in enumerate(config.stem_kernels):
        yield Place(dialect.stem(i), kernel)
    below, skips = config.stem, (config.stem, *config.encoder_widths[:-1])
    for s, (width, depth) in enumerate(zip(config.encoder_widths, config.encoder_blocks, strict=True)):
        kept = width if config.widen == "downsampling" else below
        yield Place(dialect.down(s), 2)
        yield from _blocks(dialect, [dialect.encoder(s, b) for b in range(depth)], kept, width)
        below = width
    stages = len(config.decoder_widths)
    for s, (width, depth) in enumerate(zip(config.decoder_widths, config.decoder_blocks, strict=True)):
        yield Place(dialect.up(s, stages), 2)
        prefixes = [dialect.decoder(s, b, stages) for b in range(depth)]
        yield from _blocks(dialect, prefixes, width + skips[stages - 1 - s], width)


def _blocks(dialect: Dialect, prefixes: list[str], channels: int, width: int) -> Iterator[Place]:
    for prefix in prefixes:
        kinds = zip(dialect.block, (3, 3, 1), strict=True)
        for layer, kernel in list(kinds)[: 2 if channels == width else 3]:
            yield Place(Layer(f"{prefix}.{layer.weight}", f"{prefix}.{layer.norm}"), kernel)
        channels = width


LIMA = Dialect(
    name="lima",
    layouts=(),
    stem=lambda i: Layer(f"stem.{i}.0.weight", f"stem.{i}.1.norm"),
    down=lambda s: Layer(f"encoder.{s}.0.0.weight", f"encoder.{s}.0.1.norm"),
    encoder=lambda s, b: f"encoder.{s}.1.{b}",
    up=lambda s, n: Layer(f"decoder.{s}.up.0.weight", f"decoder.{s}.up.1.norm"),
    decoder=lambda s, b, n: f"decoder.{s}.blocks.{b}",
    block=Block(
        Layer("first.0.weight", "first.1.norm"),
        Layer("second.0.weight", "second.1.norm"),
        Layer("shortcut.0.weight", "shortcut.1.norm"),
    ),
    heads=(),
    voxels=CartesianGrid(),
)
