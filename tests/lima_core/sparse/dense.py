"""Dense grids as the oracle of sparse convolutions, and clouds of voxels to try them on."""

from collections.abc import Callable

import torch
from torch import Tensor

from lima_core.sparse.kernel_map import Triple


def cloud(num: int, seed: int = 0, batches: int = 2) -> Tensor:
    """(V, 4) int32 distinct voxels in [-6, 6), in random order."""
    rng = torch.Generator().manual_seed(seed)
    batch = torch.randint(0, batches, (num, 1), generator=rng)
    rows = torch.unique(torch.cat([batch, torch.randint(-6, 6, (num, 3), generator=rng)], 1), dim=0)
    return rows[torch.randperm(len(rows), generator=rng)].int()


def normal(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """The same numbers at every precision."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def cube(half: int) -> tuple[Triple, Triple]:
    """Origin and size of the grid that covers [-half, half)."""
    return (-half,) * 3, (2 * half,) * 3


def to_dense(features: Tensor, coords: Tensor, origin: Triple, size: Triple) -> Tensor:
    """(batches, C, *size) with cell ``origin`` at index 0, zero where no voxel is; differentiable."""
    batch, *cells = coords.long().unbind(1)
    dense = features.new_zeros(int(batch.max()) + 1, *size, features.shape[1])
    place = (batch, *(cell - first for cell, first in zip(cells, origin, strict=True)))
    return dense.index_put(place, features).permute(0, 4, 1, 2, 3)


def at_voxels(dense: Tensor, coords: Tensor, origin: Triple) -> Tensor:
    """(V, C): the grid read at the voxels."""
    batch, *cells = coords.long().unbind(1)
    x, y, z = (cell - first for cell, first in zip(cells, origin, strict=True))
    return dense[batch, :, x, y, z]


def dense_weight(weight: Tensor, kernel: Triple) -> Tensor:
    """(C_out, C_in, *kernel) of torch.nn.functional.conv3d from the documented (K, C_in, C_out)."""
    return weight.view(*kernel, *weight.shape[1:]).permute(4, 3, 0, 1, 2)


def with_gradients(function: Callable[[Tensor, Tensor], Tensor], features: Tensor, weight: Tensor) -> list[Tensor]:
    """What the function returns, and its gradients by both arguments."""
    leaves = features.clone().requires_grad_(), weight.clone().requires_grad_()
    out = function(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, normal(*out.shape, seed=9).to(out))]
