"""Sparse convolution. An engine is one module; ENGINES lists them, the one that ``auto`` prefers on a GPU first.

Voxels, kernel maps, layers and weights are the same for all engines (``tensor``, ``kernel_map``, ``convolution``,
``layers``); an engine only carries out the sum of products over the pairs of a kernel map. ``engine_native`` is plain
PyTorch, runs everywhere and is the definition. To add an engine: one file with ``NAME``, ``missing`` and ``convolve``,
and one entry here; the contract test then compares it with dense convolution. docs/engines.md says what each one is.
"""

from typing import Protocol

from torch import Tensor

from lima_core.errors import ConfigError, did_you_mean
from lima_core.sparse import engine_native, engine_spconv, engine_torchsparse
from lima_core.sparse.kernel_map import KernelMap


class Engine(Protocol):
    """What a module must offer to be an engine."""

    NAME: str

    def missing(self, device: str) -> str:
        """Why the engine cannot train on a ``cpu`` or ``cuda`` device here, and how to get it; empty when it can."""

    def convolve(self, features: Tensor, weight: Tensor, pairs: KernelMap) -> Tensor:
        """Sum over pairs: ``out[target] += features[source] @ weight[offset]``; every voxel meets the centre itself.

        Args:
            features: (pairs.num_source, C_in) float32 or bf16 (float64 where the engine can).
            weight: (K, C_in, C_out), of any float type; multiplied in the precision of the features.
            pairs: the kernel map.

        Returns:
            (pairs.num_target, C_out) in the precision of the features. Differentiable once; the gradient of the weight
            has the weight's own precision.
        """


ENGINES: tuple[Engine, ...] = (engine_spconv, engine_torchsparse, engine_native)


def resolve_engine(name: str, device: str, engines: tuple[Engine, ...] = ENGINES) -> tuple[str, str]:
    """Name of an engine that runs on a device, and why it was taken.

    Args:
        name: an engine's name, or ``auto``: on the CPU the native one, else the first of ``engines`` that runs there.
        device: a torch device, resolved: ``cpu``, ``cuda``, ``cuda:1``.
        engines: the known engines.

    Raises:
        ConfigError: an unknown name, or an engine that is not installed or cannot run on this device.
    """
    kind = device.partition(":")[0]
    if name == "auto":
        return _first(engines) if kind != "cpu" else (engine_native.NAME, "always taken on the CPU")
    engine = find_engine(name, engines)
    if reason := engine.missing(kind):
        raise ConfigError(f"sparse engine {name!r} cannot run here: {reason}", remedy="or use engine 'auto'")
    return name, "as asked"


def _first(engines: tuple[Engine, ...]) -> tuple[str, str]:
    absent = []
    for engine in engines:
        reason = engine.missing("cuda")
        if not reason:
            return engine.NAME, "; ".join(["the first of the list that runs here", *absent])
        absent.append(f"not {engine.NAME}, {reason}")
    raise AssertionError("the native engine runs everywhere")


def find_engine(name: str, engines: tuple[Engine, ...] = ENGINES) -> Engine:
    """The engine of a resolved name; ConfigError for an unknown one."""
    for engine in engines:
        if name == engine.NAME:
            return engine
    known = [engine.NAME for engine in engines]
    raise ConfigError(f"unknown sparse engine {name!r}", remedy=did_you_mean(name, ["auto", *known]))
