"""The peers' networks, small, written from the facts about them alone: names spelled out, convolutions dense.

An independent oracle: a dense convolution on a grid whose empty cells are held at zero computes what a sparse one does.
The kernel is filled offset by offset, in the order that the library's source enumerates its offsets.
"""

from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

SHAPE = (16, 16, 32)
"""Cells along x, y, z: whole at stride 16."""
STAGES = 4
ENCODER, DECODER, STEM = (3, 4, 6, 5), (7, 4, 3, 5), 3
DEPTH = (1, 2, 1, 1)


@dataclass(frozen=True)
class Peer:
    """A dialect's names for a network of four stages with the depths above, up and down."""

    library: str
    stem: tuple[tuple[str, str, int], ...]
    """Weight, norm, kernel."""
    down: tuple[tuple[str, str], ...]
    encoder: tuple[tuple[str, ...], ...]
    up: tuple[tuple[str, str], ...]
    """From the coarsest."""
    decoder: tuple[tuple[str, ...], ...]
    block: tuple[tuple[str, str], ...]
    """First, second, shortcut."""
    head: tuple[str, str]
    """Weight and bias as they stand in the file."""
    prefix: str
    """Of the backbone in the file."""
    in_channels: int = 4
    widen_first: bool = False
    eps: float = 1e-5
    head_is_convolution: bool = False
    outside: tuple[str, ...] = field(default=())
    """Tensors of other parts of the same file."""


def _numbered(prefix: str, first: int, start: int = 0) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(f"{prefix}{first + s}.{start + b}" for b in range(DEPTH[s])) for s in range(STAGES))


PEERS = {
    "slidr": Peer(
        library="minkowski",
        in_channels=1,
        stem=(("conv0p1s1.kernel", "bn0.bn", 3),),
        down=(
            ("conv1p1s2.kernel", "bn1.bn"),
            ("conv2p2s2.kernel", "bn2.bn"),
            ("conv3p4s2.kernel", "bn3.bn"),
            ("conv4p8s2.kernel", "bn4.bn"),
        ),
        encoder=_numbered("block", 1),
        up=(
            ("convtr4p16s2.kernel", "bntr4.bn"),
            ("convtr5p8s2.kernel", "bntr5.bn"),
            ("convtr6p4s2.kernel", "bntr6.bn"),
            ("convtr7p2s2.kernel", "bntr7.bn"),
        ),
        decoder=_numbered("block", 5),
        block=(
            ("conv1.kernel", "norm1.bn"),
            ("conv2.kernel", "norm2.bn"),
            ("downsample.0.kernel", "downsample.1.bn"),
        ),
        head=("model_points.final.kernel", "model_points.final.bias"),
        head_is_convolution=True,
        prefix="model_points.",
        outside=("model_images.encoder.conv1.weight", "model_images.decoder.0.bias"),
    ),
    "superflow": Peer(
        library="torchsparse",
        stem=(("conv0.0.conv.kernel", "conv0.0.norm", 3), ("conv0.1.conv.kernel", "conv0.1.norm", 3)),
        down=tuple((f"conv{i}.conv.kernel", f"conv{i}.norm") for i in (1, 2, 3, 4)),
        encoder=_numbered("block", 1),
        up=tuple((f"conv{i}.conv.kernel", f"conv{i}.norm") for i in (5, 6, 7, 8)),
        decoder=_numbered("block", 5),
        block=(("conv1.kernel", "norm1"), ("conv2.kernel", "norm2"), ("downsample.conv.kernel", "downsample.norm")),
        head=("state_dict.head_3d.conv_seg.weight", "state_dict.head_3d.conv_seg.bias"),
        prefix="state_dict.backbone_3d.",
        outside=(
            "state_dict.backbone_2d.cls_token",
            "state_dict.head_2d.head.0.weight",
            "state_dict.head_2d.head.0.bias",
        ),
    ),
    "mmdet3d-torchsparse": Peer(
        library="torchsparse",
        stem=tuple((f"conv_input.{i}.net.0.kernel", f"conv_input.{i}.net.1", 3) for i in (0, 1)),
        down=tuple((f"encoder.{i}.0.net.0.kernel", f"encoder.{i}.0.net.1") for i in range(4)),
        encoder=tuple(tuple(f"encoder.{s}.{b}" for b in range(1, DEPTH[s] + 1)) for s in range(4)),
        up=tuple((f"decoder.{i}.0.net.0.kernel", f"decoder.{i}.0.net.1") for i in range(4)),
        decoder=tuple(tuple(f"decoder.{s}.1.{b}" for b in range(DEPTH[s])) for s in range(4)),
        block=(("net.0.kernel", "net.1"), ("net.3.kernel", "net.4"), ("downsample.0.kernel", "downsample.1")),
        head=("state_dict.decode_head.conv_seg.weight", "state_dict.decode_head.conv_seg.bias"),
        prefix="state_dict.backbone.",
    ),
    "mmdet3d-minkowski": Peer(
        library="minkowski",
        stem=tuple((f"conv_input.{i}.net.0.kernel", f"conv_input.{i}.net.1.bn", 3) for i in (0, 1)),
        down=tuple((f"encoder.{i}.0.net.0.kernel", f"encoder.{i}.0.net.1.bn") for i in range(4)),
        encoder=tuple(tuple(f"encoder.{s}.{b}" for b in range(1, DEPTH[s] + 1)) for s in range(4)),
        up=tuple((f"decoder.{i}.0.net.0.kernel", f"decoder.{i}.0.net.1.bn") for i in range(4)),
        decoder=tuple(tuple(f"decoder.{s}.1.{b}" for b in range(DEPTH[s])) for s in range(4)),
        block=(
            ("conv1.kernel", "norm1.bn"),
            ("conv2.kernel", "norm2.bn"),
            ("downsample.net.0.kernel", "downsample.net.1.bn"),
        ),
        head=("state_dict.decode_head.conv_seg.weight", "state_dict.decode_head.conv_seg.bias"),
        prefix="state_dict.backbone.",
    ),
    "mmdet3d-spconv": Peer(
        library="spconv",
        stem=tuple((f"conv_input.{i}.0.weight", f"conv_input.{i}.1", 3) for i in (0, 1)),
        down=tuple((f"encoder.{i}.0.0.weight", f"encoder.{i}.0.1") for i in range(4)),
        encoder=tuple(tuple(f"encoder.{s}.{b}" for b in range(1, DEPTH[s] + 1)) for s in range(4)),
        up=tuple((f"decoder.{i}.0.0.weight", f"decoder.{i}.0.1") for i in range(4)),
        decoder=tuple(tuple(f"decoder.{s}.1.{b}" for b in range(DEPTH[s])) for s in range(4)),
        block=(("conv1.weight", "bn1"), ("conv2.weight", "bn2"), ("downsample.0.weight", "downsample.1")),
        head=("state_dict.decode_head.conv_seg.weight", "state_dict.decode_head.conv_seg.bias"),
        prefix="state_dict.backbone.",
    ),
    "pointcept": Peer(
        library="spconv",
        stem=(("conv_input.0.weight", "conv_input.1", 5),),
        down=tuple((f"down.{i}.0.weight", f"down.{i}.1") for i in (0, 1, 2, 3)),
        encoder=tuple(tuple(f"enc.{s}.block{b}" for b in range(DEPTH[s])) for s in range(4)),
        up=tuple((f"up.{i}.0.weight", f"up.{i}.1") for i in (3, 2, 1, 0)),
        decoder=tuple(tuple(f"dec.{3 - s}.block{b}" for b in range(DEPTH[s])) for s in range(4)),
        block=(("conv1.weight", "bn1"), ("conv2.weight", "bn2"), ("proj.0.weight", "proj.1")),
        head=("state_dict.module.backbone.final.weight", "state_dict.module.backbone.final.bias"),
        head_is_convolution=True,
        prefix="state_dict.module.backbone.",
        widen_first=True,
        eps=1e-3,
    ),
}


def offsets(library: str, kernel: int) -> list[tuple[int, int, int]]:
    """Position in the dense kernel of each number along K, as the library enumerates them."""
    steps = range(kernel)
    if library == "minkowski" or (library == "torchsparse" and kernel % 2 == 1):
        return [(x, y, z) for z in steps for y in steps for x in steps]
    return list(product(steps, steps, steps))


def stored_shape(library: str, kernel: int, channels_in: int, channels_out: int) -> tuple[int, ...]:
    """Shape of a weight in that library's state dict."""
    if library == "spconv":
        return channels_out, kernel, kernel, kernel, channels_in
    if library == "spconv1":
        return kernel, kernel, kernel, channels_in, channels_out
    return (channels_in, channels_out) if kernel == 1 else (kernel**3, channels_in, channels_out)


def dense_kernel(library: str, weight: Tensor, kernel: int, channels_in: int, channels_out: int) -> Tensor:
    """(C_out, C_in, n, n, n) float64 of a stored weight."""
    if kernel == 1:  # all of them multiply by memory read as (C_in, C_out)
        return weight.reshape(channels_in, channels_out).T[:, :, None, None, None].double()
    dense = torch.zeros(channels_out, channels_in, kernel, kernel, kernel, dtype=torch.float64)
    for number, (x, y, z) in enumerate(offsets(library, kernel)):
        if library == "spconv":
            dense[:, :, x, y, z] = weight[:, x, y, z, :]
        elif library == "spconv1":
            dense[:, :, x, y, z] = weight[x, y, z].T
        else:
            dense[:, :, x, y, z] = weight[number].T
    return dense


class Network:
    """One of the peers, small: makes a file's tensors, and computes with them."""

    def __init__(self, peer: Peer, seed: int = 0, library: str | None = None) -> None:
        self.peer, self.library = peer, library or peer.library
        self.rng = torch.Generator().manual_seed(seed)
        self.tensors: dict[str, Tensor] = {}
        self.grid: Tensor | None = None
        self.occupied: list[Tensor] = []
        self.making = True
        self._run(torch.zeros(1, peer.in_channels, 1, 1, 1))
        shape = stored_shape(self.library, 1, DECODER[-1], 9) if peer.head_is_convolution else (9, DECODER[-1])
        self.tensors[peer.head[0]] = self._random(*shape)
        minkowski = peer.head_is_convolution and self.library == "minkowski"
        self.tensors[peer.head[1]] = self._random(1, 9) if minkowski else self._random(9)
        for name in peer.outside:
            self.tensors[name] = self._random(2, 2)
        self.making = False

    def __call__(self, features: Tensor, occupied: Tensor) -> Tensor:
        """(C, X, Y, Z) outputs of the backbone from (C_in, X, Y, Z), zero where not ``occupied``, float64."""
        self.occupied = [occupied.double()[None, None]]
        for _ in range(STAGES):
            self.occupied.append(functional.max_pool3d(self.occupied[-1], 2))
        return self._run(features.double()[None])[0]

    def head(self, rows: Tensor) -> Tensor:
        """(V, 9) from (V, C)."""
        weight, bias = (self.tensors[name].double() for name in self.peer.head)
        if self.peer.head_is_convolution:
            return rows @ dense_kernel(self.library, weight, 1, DECODER[-1], 9)[:, :, 0, 0, 0].T + bias.flatten()
        return rows @ weight.T + bias

    def _run(self, x: Tensor) -> Tensor:
        peer = self.peer
        for weight, norm, kernel in peer.stem:
            x = self._conv(x, weight, norm, kernel, STEM, 0).relu()
        channels, skips = STEM, []
        for s in range(STAGES):
            skips.append(x)
            kept = ENCODER[s] if peer.widen_first else channels
            x = self._conv(x, *peer.down[s], 2, kept, s + 1, stride=2).relu()
            x = self._blocks(x, peer.encoder[s], ENCODER[s], s + 1)
            channels = ENCODER[s]
        for s in range(STAGES):
            level = STAGES - 1 - s
            x = self._conv(x, *peer.up[s], 2, DECODER[s], level, stride=-2).relu()
            x = self._blocks(torch.cat([x, skips.pop()], 1), peer.decoder[s], DECODER[s], level)
        return x

    def _blocks(self, x: Tensor, prefixes: tuple[str, ...], width: int, level: int) -> Tensor:
        for prefix in prefixes:
            first, second, shortcut = ((f"{prefix}.{weight}", f"{prefix}.{norm}") for weight, norm in self.peer.block)
            beside = x if x.shape[1] == width else self._conv(x, *shortcut, 1, width, level)
            y = self._conv(x, *first, 3, width, level).relu()
            x = (self._conv(y, *second, 3, width, level) + beside).relu()
        return x

    def _conv(self, x: Tensor, weight: str, norm: str, kernel: int, out: int, level: int, stride: int = 1) -> Tensor:
        weight, norm = self.peer.prefix + weight, self.peer.prefix + norm
        if self.making:
            self._make(weight, norm, kernel, x.shape[1], out)
            return x.new_zeros(1, out, 1, 1, 1)
        dense = dense_kernel(self.library, self.tensors[weight], kernel, x.shape[1], out)
        if stride == -2:
            y = functional.conv_transpose3d(x, dense.transpose(0, 1), stride=2)
        else:
            y = functional.conv3d(x, dense, stride=stride, padding=kernel // 2 if stride == 1 else 0)
        mean, variance, scale, shift = (
            self.tensors[f"{norm}.{part}"].double()[:, None, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((y - mean) / (variance + self.peer.eps).sqrt() * scale + shift) * self.occupied[level]

    def _make(self, weight: str, norm: str, kernel: int, channels_in: int, out: int) -> None:
        shape = stored_shape(self.library, kernel, channels_in, out)
        self.tensors[weight] = self._random(*shape) / (channels_in * kernel**1.5) ** 0.5
        for part in ("weight", "running_var"):
            self.tensors[f"{norm}.{part}"] = 0.5 + torch.rand(out, generator=self.rng)
        for part in ("bias", "running_mean"):
            self.tensors[f"{norm}.{part}"] = 0.3 * self._random(out)
        self.tensors[f"{norm}.num_batches_tracked"] = torch.tensor(7)

    def _random(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.rng)


def scan(channels: int, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Features (C, X, Y, Z) zero in empty cells, which cells are occupied (X, Y, Z), and their coordinates (V, 3)."""
    rng = torch.Generator().manual_seed(seed)
    occupied = torch.rand(SHAPE, generator=rng) < 0.15
    return torch.randn(channels, *SHAPE, generator=rng) * occupied, occupied, occupied.nonzero()
