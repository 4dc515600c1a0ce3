"""MinkUNet as spconv's users run it: its modules, its search for neighbours. Also for spconv_triton, the drop-in.

On the CPU (spconv 2.3.8, package ``spconv``) it is right on one thread only and gets no more, and its backward pass
wants a CUDA stream that it does not use; every one of its users there has to answer that, and so does
``without_stream``. On CUDA its own layers choose float16 under autocast, also where bf16 is asked: its row ``bf16`` is
float16.

    PYTHONPATH=. lima bench engines --peer benchmarks.peers.spconv_minkunet
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers.unet import PeerUNet, forward_and_backward, one_thread
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.sparse import engine_spconv

NAME = "spconv as its users run it"


def missing(device: str) -> str:
    """Why it cannot run on ``cpu`` or ``cuda`` here; empty when it can."""
    if device != "cpu":
        return engine_spconv.missing(device)
    return "" if find_spec("spconv") else "package spconv is not installed"


def precisions(device: str) -> tuple[str, ...]:
    """What it has on ``cpu`` or ``cuda``."""
    return ("fp32",) if device == "cpu" else ("fp32", "tf32", "bf16")


def training_pass(coords: Tensor, features: Tensor, config: MinkUNetConfig) -> Callable[[], Tensor]:
    """Work of one forward and backward pass, maps and all, on the CPU by one thread; it returns (V, C) features."""
    work = unbound_pass(coords, features, config)

    def alone() -> Tensor:
        with one_thread(coords.device):
            return work()

    return alone


def unbound_pass(coords: Tensor, features: Tensor, config: MinkUNetConfig) -> Callable[[], Tensor]:
    """The same on as many threads as there are, where it adds wrongly on the CPU."""
    library = package(coords.device)
    network = PeerUNet(config, features.shape[1], SpconvLayers(library)).to(coords.device).train()
    moved, size = from_zero(coords, 2 ** len(config.encoder_widths))
    batch = int(coords[:, 0].max()) + 1

    def work() -> Tensor:
        with tf32(library), without_stream(library, coords.device):
            return forward_and_backward(
                network, lambda: network(_pytorch(library).SparseConvTensor(features, moved, size, batch)).features
            )

    return work


def package(device: torch.device) -> str:
    """Name of the package that is run."""
    return "spconv" if device.type == "cpu" else engine_spconv.provider()


def from_zero(coords: Tensor, multiple: int) -> tuple[Tensor, list[int]]:
    """Coords moved by whole coarse cells so that none is negative, and the edges of the grid, whole coarse cells."""
    cells = coords[:, 1:]
    low = torch.div(cells.amin(0), multiple, rounding_mode="floor") * multiple
    size = torch.div(cells.amax(0) - low, multiple, rounding_mode="floor") * multiple + multiple
    return torch.cat([coords[:, :1], cells - low], 1).int().contiguous(), size.tolist()


class SpconvLayers:
    """The layers as its documentation uses them: an ``indice_key`` per level shares the maps."""

    NORM = nn.BatchNorm1d

    def __init__(self, library: str) -> None:
        self.spconv = _pytorch(library)
        self.CONVOLUTION = engine_spconv.module(f"{library}.pytorch.conv").SparseConvolution

    def convolution(self, in_channels: int, out_channels: int, kernel: int, level: int) -> nn.Module:
        """Submanifold convolution."""
        return self._sequential(
            self.spconv.SubMConv3d(
                in_channels, out_channels, kernel, padding=kernel // 2, bias=False, indice_key=f"{level} {kernel}"
            )
        )

    def down(self, channels: int, level: int) -> nn.Module:
        """Kernel and stride 2."""
        return self._sequential(
            self.spconv.SparseConv3d(channels, channels, 2, stride=2, bias=False, indice_key=f"down {level}")
        )

    def up(self, in_channels: int, out_channels: int, level: int) -> nn.Module:
        """The inverse of ``down`` of that level."""
        return self._sequential(
            self.spconv.SparseInverseConv3d(in_channels, out_channels, 2, indice_key=f"down {level}", bias=False)
        )

    def norm(self, channels: int, momentum: float, eps: float) -> nn.Module:
        """Batch normalisation."""
        return self._sequential(nn.BatchNorm1d(channels, momentum=momentum, eps=eps))

    def relu(self) -> nn.Module:
        """ReLU in place."""
        return self._sequential(nn.ReLU(inplace=True))

    def add(self, first: Any, second: Any) -> Any:
        """Sum on the same voxels."""
        return first.replace_feature(first.features + second.features)

    def concatenate(self, first: Any, second: Any) -> Any:
        """Channels of the first before those of the second."""
        return first.replace_feature(torch.cat([first.features, second.features], 1))

    def weight(self, conv: nn.Module) -> nn.Parameter:
        """(C_out, k, k, k, C_in)."""
        return conv.weight

    def as_theirs(self, weight: Tensor, conv: nn.Module) -> Tensor:
        """Offsets are in the same order. A 1^3 kernel says (C_out, 1, 1, 1, C_in) but is read as (C_in, C_out)."""
        return (weight if len(weight) == 1 else weight.permute(2, 0, 1)).reshape(conv.weight.shape)

    def _sequential(self, layer: nn.Module) -> nn.Module:
        """Layers of torch act on the features only inside this."""
        return self.spconv.SparseSequential(layer)


def _pytorch(library: str) -> ModuleType:
    return engine_spconv.module(f"{library}.pytorch")


def tf32(library: str) -> AbstractContextManager:
    """Its switch for TF32 as torch's stands."""
    constants = engine_spconv.module(f"{library}.constants")
    return engine_spconv.setting(constants, "SPCONV_ALLOW_TF32", torch.backends.cuda.matmul.allow_tf32)


def without_stream(library: str, device: torch.device) -> AbstractContextManager:
    """On the CPU its backward pass asks for a CUDA stream all the same."""
    if device.type != "cpu":
        return nullcontext()
    return engine_spconv.setting(engine_spconv.module(f"{library}.pytorch.ops"), "get_current_stream", lambda: 0)
