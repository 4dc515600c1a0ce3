"""The default MinkUNet, put together from the layers of another library as its users put them together.

Layers are made in the order of ``lima_core.models.minkunet``, so weights can be copied one after the other. Of its
config the fields of a dialect (``inputs``, ``widen``) are not followed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lima_core.models.minkunet import MinkUNet, MinkUNetConfig
from lima_core.sparse.layers import Downsample, SparseConv3d, Upsample
from lima_core.sparse.norm import SparseBatchNorm


class Layers(Protocol):
    """What a library brings; ``level`` 0 is full resolution. Modules take and return the library's own tensors."""

    CONVOLUTION: type
    NORM: type

    def convolution(self, in_channels: int, out_channels: int, kernel: int, level: int) -> nn.Module:
        """Submanifold convolution."""

    def down(self, channels: int, level: int) -> nn.Module:
        """Kernel and stride 2, from ``level`` to the next."""

    def up(self, in_channels: int, out_channels: int, level: int) -> nn.Module:
        """The way back to ``level``."""

    def norm(self, channels: int, momentum: float, eps: float) -> nn.Module:
        """Batch normalisation."""

    def relu(self) -> nn.Module:
        """ReLU in place."""

    def add(self, first: Any, second: Any) -> Any:
        """Sum on the same voxels."""

    def concatenate(self, first: Any, second: Any) -> Any:
        """Channels of the first before those of the second."""

    def weight(self, conv: nn.Module) -> nn.Parameter:
        """Its weight."""

    def as_theirs(self, weight: Tensor, conv: nn.Module) -> Tensor:
        """Our weight (K, C_in, C_out) in the library's layout and order of offsets."""


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, level: int, net: "PeerUNet") -> None:
        super().__init__()
        self.add = net.layers.add
        self.first = net.convolution(in_channels, out_channels, 3, level)
        self.second = net.convolution(out_channels, out_channels, 3, level, relu=False)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else net.convolution(in_channels, out_channels, 1, level, relu=False)
        self.relu = net.layers.relu()

    def forward(self, x: Any) -> Any:
        """C_in channels to C_out."""
        return self.relu(self.add(self.second(self.first(x)), self.shortcut(x)))


class PeerUNet(nn.Module):
    """From the library's tensor to the library's tensor on the same voxels."""

    def __init__(self, config: MinkUNetConfig, in_channels: int, layers: Layers) -> None:
        super().__init__()
        assert config.inputs is None and config.widen == "blocks", "a dialect that peers do not speak"
        self.layers, self.config = layers, config
        widths, depth = (config.stem, *config.encoder_widths), len(config.encoder_widths)
        stem = [in_channels] + [config.stem] * len(config.stem_kernels)
        self.stem = nn.Sequential(
            *[self.convolution(stem[i], config.stem, kernel, 0) for i, kernel in enumerate(config.stem_kernels)]
        )
        self.encoder = nn.ModuleList(
            nn.Sequential(
                self._normed(layers.down(widths[i], i), widths[i]),
                self._blocks(widths[i], widths[i + 1], config.encoder_blocks[i], i + 1),
            )
            for i in range(depth)
        )
        self.ups, self.fuses = nn.ModuleList(), nn.ModuleList()
        below = widths[-1]
        for i, (out, blocks) in enumerate(zip(config.decoder_widths, config.decoder_blocks, strict=True)):
            level = depth - 1 - i
            self.ups.append(self._normed(layers.up(below, out, level), out))
            self.fuses.append(self._blocks(out + widths[level], out, blocks, level))
            below = out

    def convolution(
        self, in_channels: int, out_channels: int, kernel: int, level: int, *, relu: bool = True
    ) -> nn.Module:
        """Submanifold convolution and normalisation."""
        return self._normed(self.layers.convolution(in_channels, out_channels, kernel, level), out_channels, relu)

    def forward(self, x: Any) -> Any:
        """``in_channels`` to the last of ``decoder_widths``."""
        x, skips = self.stem(x), []
        for stage in self.encoder:
            skips.append(x)
            x = stage(x)
        for up, fuse in zip(self.ups, self.fuses, strict=True):
            x = fuse(self.layers.concatenate(up(x), skips.pop()))
        return x

    def _normed(self, conv: nn.Module, channels: int, relu: bool = True) -> nn.Module:
        norm = self.layers.norm(channels, self.config.bn_momentum, self.config.bn_eps)
        return nn.Sequential(conv, norm, *([self.layers.relu()] if relu else []))

    def _blocks(self, in_channels: int, out_channels: int, depth: int, level: int) -> nn.Module:
        widths = [in_channels] + [out_channels] * depth
        return nn.Sequential(*[Block(widths[i], widths[i + 1], level, self) for i in range(depth)])


def copy_weights(ours: MinkUNet, peer: PeerUNet) -> None:
    """Gives ``peer`` our weights; norms of both are fresh."""
    layers = peer.layers
    convs = [layer for layer in ours.modules() if isinstance(layer, SparseConv3d | Downsample | Upsample)]
    theirs = in_our_order(peer)
    norms = [
        len([m for m in net.modules() if isinstance(m, kind)])
        for net, kind in ((ours, SparseBatchNorm), (peer, layers.NORM))
    ]
    assert len(convs) == len(theirs) and norms[0] == norms[1], "not the same network"
    with torch.no_grad():
        for conv, their in zip(convs, theirs, strict=True):
            layers.weight(their).copy_(layers.as_theirs(conv.weight, their))


def in_our_order(peer: PeerUNet) -> list[nn.Module]:
    """The peer's convolutions; in its decoder every step up comes before its blocks."""
    steps = [part for pair in zip(peer.ups, peer.fuses, strict=True) for part in pair]
    parts = [peer.stem, *peer.encoder, *steps]
    return [layer for part in parts for layer in part.modules() if isinstance(layer, peer.layers.CONVOLUTION)]


def forward_and_backward(network: nn.Module, features_of: Callable[[], Tensor]) -> Tensor:
    """The loss of ``lima bench engines``; gradients are thrown away."""
    out = features_of()
    out.float().square().mean().backward()
    network.zero_grad(set_to_none=True)
    return out.detach()


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """On the CPU a single thread, whatever the others have: spconv is right, and torchsparse fastest, on no more."""
    if device.type != "cpu":
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
