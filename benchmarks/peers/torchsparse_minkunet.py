"""MinkUNet as torchsparse's users run it: its modules, its search for neighbours. 2.1 on CUDA, 2.0 on the CPU.

A 2.0 built for the CPU lacks one function, which its masks for CUDA need; ``without_masks`` stands in for it. Its
layers run in the precision of the features, autocast or not, so only ``fp32`` and ``tf32`` are compared.

    PYTHONPATH=. lima bench engines --peer benchmarks.peers.torchsparse_minkunet
"""

import importlib
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks.peers.spconv_minkunet import from_zero
from benchmarks.peers.unet import PeerUNet, forward_and_backward, one_thread
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.sparse import engine_torchsparse

NAME = "torchsparse as its users run it"


def missing(device: str) -> str:
    """Why it cannot run on ``cpu`` or ``cuda`` here; empty when it can."""
    reason = engine_torchsparse.missing(device)
    if reason or device != "cpu":
        return reason
    return "" if _torchsparse().__version__.startswith("2.0") else "only its 2.0 runs on the CPU"


def precisions(device: str) -> tuple[str, ...]:
    """What it has on ``cpu`` or ``cuda``."""
    return ("fp32",) if device == "cpu" else ("fp32", "tf32")


def training_pass(coords: Tensor, features: Tensor, config: MinkUNetConfig) -> Callable[[], Tensor]:
    """Work of one forward and backward pass, maps and all; it returns (V, C) features."""
    library = _torchsparse()
    network = PeerUNet(config, features.shape[1], TorchsparseLayers()).to(coords.device).train()
    moved, _ = from_zero(coords, 2 ** len(config.encoder_widths))
    if library.__version__.startswith("2.0"):
        moved = moved[:, [1, 2, 3, 0]].contiguous()

    def work() -> Tensor:
        with one_thread(coords.device), tf32(library), without_masks(library, coords.device):
            return forward_and_backward(network, lambda: network(library.SparseTensor(features, moved)).feats)

    return work


class TorchsparseLayers:
    """The layers as its own backbones use them; maps are shared through the tensor."""

    def __init__(self) -> None:
        self.torchsparse = _torchsparse()
        self.nn = importlib.import_module("torchsparse.nn")
        self.CONVOLUTION, self.NORM = self.nn.Conv3d, self.nn.BatchNorm

    def convolution(self, in_channels: int, out_channels: int, kernel: int, level: int) -> nn.Module:
        """Submanifold convolution."""
        return self.nn.Conv3d(in_channels, out_channels, kernel)

    def down(self, channels: int, level: int) -> nn.Module:
        """Kernel and stride 2."""
        return self.nn.Conv3d(channels, channels, 2, stride=2)

    def up(self, in_channels: int, out_channels: int, level: int) -> nn.Module:
        """The transposed convolution."""
        return self.nn.Conv3d(in_channels, out_channels, 2, stride=2, transposed=True)

    def norm(self, channels: int, momentum: float, eps: float) -> nn.Module:
        """Batch normalisation."""
        return self.nn.BatchNorm(channels, momentum=momentum, eps=eps)

    def relu(self) -> nn.Module:
        """ReLU in place."""
        return self.nn.ReLU(True)

    def add(self, first: Any, second: Any) -> Any:
        """Sum on the same voxels."""
        return first + second

    def concatenate(self, first: Any, second: Any) -> Any:
        """Channels of the first before those of the second."""
        return self.torchsparse.cat([first, second])

    def weight(self, conv: nn.Module) -> nn.Parameter:
        """(K, C_in, C_out), or (C_in, C_out) of a 1^3 kernel."""
        return conv.kernel

    def as_theirs(self, weight: Tensor, conv: nn.Module) -> Tensor:
        """Odd kernels list x fastest, even ones z."""
        edge = round(len(weight) ** (1 / 3))
        if edge % 2:
            weight = weight.view(edge, edge, edge, *weight.shape[1:]).transpose(0, 2).flatten(0, 2)
        return weight.reshape(conv.kernel.shape)


def _torchsparse() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        importlib.import_module("torchsparse.nn")
        return importlib.import_module("torchsparse")


def tf32(library: ModuleType) -> AbstractContextManager:
    """Its switch for TF32, which 2.0 does not have, as torch's stands."""
    return mock.patch.object(library.backends, "allow_tf32", torch.backends.cuda.matmul.allow_tf32, create=True)


def without_masks(library: ModuleType, device: torch.device) -> AbstractContextManager:
    """On the CPU a function that is not there returns two times nothing."""
    if device.type != "cpu":
        return nullcontext()
    return mock.patch.object(library.backend, "build_mask_from_kmap", lambda *_: (None, None), create=True)
