"""A training small enough for a test, of samples with different numbers of rows, in float64."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from lima_core.seeds import torch_rng
from lima_core.sparse.norm import SparseBatchNorm
from lima_core.sparse.tensor import SparseTensor
from lima_core.training.config import FitConfig
from lima_core.training.loop import FitResult, fit
from lima_core.training.objective import Objective
from lima_core.training.optim import AdamWConfig
from lima_core.types import Resources

CONFIG = FitConfig(steps=6, batch_size=5, optimiser=AdamWConfig(lr=0.02), grad_clip=0.5, ema=0.9)
"""12 samples: 2 steps an epoch."""


@dataclass(frozen=True)
class Rows:
    """Several samples behind each other."""

    names: tuple[str, ...]
    x: Tensor
    """(R, 4) float64."""
    y: Tensor
    """(R, 1) float64."""

    def to(self, device: str) -> "Rows":
        return replace(self, x=self.x.to(device), y=self.y.to(device))


class Ragged:
    """Sample i has 2 + i % 5 rows; can poison one, and stop before a load."""

    def __init__(self, num_samples: int = 12, poisoned: int | None = None, stop_at: int | None = None) -> None:
        self.num_samples, self.poisoned, self.stop_at = num_samples, poisoned, stop_at
        self.asked: list[tuple[int, ...]] = []

    def __len__(self) -> int:
        return self.num_samples

    def load(self, epoch: int, indices: Sequence[int]) -> Rows:
        if len(self.asked) == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append(tuple(indices))
        x = torch.cat([self._sample(epoch, i) for i in indices])
        return Rows(tuple(f"frame{i}" for i in indices), x, x.sum(1, keepdim=True).sin())

    def _sample(self, epoch: int, index: int) -> Tensor:
        x = torch.randn(2 + index % 5, 4, generator=torch_rng(3, epoch, index), dtype=torch.float64)
        return x * float("nan") if index == self.poisoned else x


class Net(nn.Module):
    """Two layers with a norm that can be synchronised between them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.last = nn.Linear(4, 8), SparseBatchNorm(8), nn.Linear(8, 1)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        coords = torch.zeros(len(x), 4, dtype=torch.int32)
        return self.last(self.norm(SparseTensor(self.first(x), coords)).features.relu())

    def loss(self, batch: Rows) -> Objective:
        error = self(batch.x) - batch.y
        return Objective(error.square().mean(), len(error), {"absolute": error.abs().mean()})


def train(net: Net, source: Ragged, out: Path, config: FitConfig = CONFIG, **options: object) -> FitResult:
    """``fit``; ``resources`` and its keyword arguments may be given."""
    resources = options.pop("resources", Resources())
    return fit(net, net.loss, source, config, out, resources, 5, "toy", **options)
