"""spconv's own modules on the CPU with its data race repaired, which none of its users has: any number of threads.

``SpconvOps.scatter_add_cpu`` adds wrongly with two threads or more; here ``index_add_`` of torch adds in its place.
What it measures is how fast spconv would be on this machine if it were right.

    PYTHONPATH=. lima bench engines --peer benchmarks.peers.spconv_repaired
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers import spconv_minkunet
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.sparse import engine_spconv

NAME = "spconv with its race repaired"


def missing(device: str) -> str:
    """Why it cannot run on ``cpu`` or ``cuda`` here; empty when it can."""
    if device != "cpu":
        return "there is no race on a GPU"
    return "" if find_spec("spconv") else "package spconv is not installed"


def precisions(device: str) -> tuple[str, ...]:
    """float32."""
    return ("fp32",)


def training_pass(coords: Tensor, features: Tensor, config: MinkUNetConfig) -> Callable[[], Tensor]:
    """Work of one forward and backward pass, maps and all; it returns (V, C) features."""
    work = spconv_minkunet.unbound_pass(coords, features, config)
    ops = engine_spconv.module("spconv.pytorch.ops")
    repaired = Repaired(engine_spconv.module("spconv.core_cc.csrc.sparse.all").SpconvOps)

    def repaired_work() -> Tensor:
        with engine_spconv.setting(ops, "SpconvOps", repaired):
            return work()

    return repaired_work


class Repaired:
    """``SpconvOps`` with another ``scatter_add_cpu``."""

    def __init__(self, ops: Any) -> None:
        self._ops = ops

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def scatter_add_cpu(self, out: Any, buffer: Any, rows: Any) -> None:
        """``out[rows] += buffer[: len(rows)]`` on their tensors, which share memory with these."""
        index = torch.from_numpy(rows.numpy_view()).long()
        torch.from_numpy(out.numpy_view()).index_add_(0, index, torch.from_numpy(buffer.numpy_view())[: len(index)])
