"""Sparse convolution. An engine is one module; ENGINES lists them, the one that ``auto`` prefers first.

``engine_native`` is plain PyTorch and runs everywhere. To add an engine: one file with ``NAME``, ``missing``,
``submanifold``, ``down`` and ``up``, and one entry here; the contract test then compares it with the native one.
"""

from typing import Protocol

from torch import Tensor

from lima_core.errors import ConfigError, did_you_mean
from lima_core.sparse import engine_native
from lima_core.sparse.tensor import SparseTensor


class Engine(Protocol):
    """What a module must offer to be an engine; shapes and meaning are those of ``engine_native``."""

    NAME: str

    def missing(self) -> str:
        """Why the engine cannot run here and how to get it; empty when it can."""

    def submanifold(self, x: SparseTensor, weight: Tensor, kernel: int) -> SparseTensor:
        """Odd kernel, weight (kernel^3, C_in, C_out), output voxels = input voxels."""

    def down(self, x: SparseTensor, weight: Tensor) -> SparseTensor:
        """Kernel 2, stride 2, weight (8, C_in, C_out)."""

    def up(self, x: SparseTensor, weight: Tensor) -> SparseTensor:
        """Transposed kernel 2, stride 2, weight (8, C_in, C_out), back to the voxels that ``down`` left."""


ENGINES: tuple[Engine, ...] = (engine_native,)


def resolve_engine(name: str, engines: tuple[Engine, ...] = ENGINES) -> str:
    """Name of an engine that runs here.

    Args:
        name: an engine's name, or ``auto`` for the first of ``engines`` that runs here.
        engines: the known engines.

    Raises:
        ConfigError: an unknown name, or an engine that is not installed or cannot run on this machine.
    """
    if name == "auto":
        return next(engine.NAME for engine in engines if not engine.missing())
    engine = find_engine(name, engines)
    if reason := engine.missing():
        raise ConfigError(f"sparse engine {name!r} cannot run here: {reason}", remedy="or use engine 'auto'")
    return name


def find_engine(name: str, engines: tuple[Engine, ...] = ENGINES) -> Engine:
    """The engine of a resolved name; ConfigError for an unknown one."""
    for engine in engines:
        if name == engine.NAME:
            return engine
    known = [engine.NAME for engine in engines]
    raise ConfigError(f"unknown sparse engine {name!r}", remedy=did_you_mean(name, ["auto", *known]))
