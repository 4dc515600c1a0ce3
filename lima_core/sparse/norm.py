"""Batch normalisation of sparse tensors, over the voxels of this process or of all that train together.

torch's ``SyncBatchNorm`` is for CUDA only and needs two rows in every process; this one works through gloo too, and is
exact for unequal numbers of rows: means and sums of squares about them are combined as in Chan, Golub and LeVeque
(1979), so nothing cancels, and every process does the same sums in the same order.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lima_core.sparse.tensor import SparseTensor


class SparseBatchNorm(nn.Module):
    """Batch normalisation over all voxels of the batch.

    Fewer than two voxels have no variance: they are normalised with the running statistics, which stay as they are
    (a scan of a few metres has one voxel left at stride 16). Parameters and statistics are those of an ordinary
    ``nn.BatchNorm1d``.
    """

    synchronised = False
    """In training, the voxels of all processes of the default group count; all must then call it alike."""
    keeps_statistics = False
    """Training does not move the running statistics: see ``statistics_kept``."""

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels, eps=eps, momentum=momentum)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Same shape."""
        if self.training and self.synchronised:
            return x.replace(self._over_all_processes(x.features))
        if self.training and len(x) < 2:
            return x.replace(_normalise_with_running_statistics(self.norm, x.features))
        if self.training and self.keeps_statistics:
            norm = self.norm
            spare = norm.running_mean.clone(), norm.running_var.clone()
            return x.replace(
                nn.functional.batch_norm(x.features, *spare, norm.weight, norm.bias, True, norm.momentum, norm.eps)
            )
        return x.replace(self.norm(x.features))

    def _over_all_processes(self, features: Tensor) -> Tensor:
        norm = self.norm
        count, mean, squares = statistics(features.detach())
        some = (count > 1).to(mean.dtype)  # no branch: it would wait for the GPU
        variance = squares / count.clamp(min=1)
        if not self.keeps_statistics:
            unbiased = squares / (count - 1).clamp(min=1)
            with torch.no_grad():
                norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum * some)
                norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), norm.momentum * some)
                norm.num_batches_tracked += some.long()
        mean = torch.where(some > 0, mean, norm.running_mean.to(mean.dtype))
        variance = torch.where(some > 0, variance, norm.running_var.to(mean.dtype))
        inverse = (variance + norm.eps).rsqrt()
        return _Normalise.apply(features, norm.weight, norm.bias, mean, inverse, some / count.clamp(min=1))


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Within, no SparseBatchNorm of ``module`` moves its running statistics: for a forward pass done again."""
    norms = [layer for layer in module.modules() if isinstance(layer, SparseBatchNorm)]
    for layer in norms:
        layer.keeps_statistics = True
    try:
        yield
    finally:
        for layer in norms:
            layer.keeps_statistics = False


def statistics(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the rows of all processes, in float32 or, for float64 features, float64.

    Args:
        features: (V, C) of this process; V may be 0.

    Returns:
        Their number, a scalar; mean (C,); sum of squares about the mean (C,).
    """
    rows = features if features.dtype == torch.float64 else features.float()
    mean = rows.sum(0) / max(1, len(rows))
    squares = (rows - mean).square().sum(0)
    own = torch.cat([rows.new_tensor([len(rows)]), mean, squares])
    everyone = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, own)
    table = torch.stack(everyone)
    channels = len(mean)
    counts, means, squares = table[:, :1], table[:, 1 : channels + 1], table[:, channels + 1 :]
    count = counts.sum()
    mean = (counts * means).sum(0) / count.clamp(min=1)
    return count, mean, (squares + counts * (means - mean).square()).sum(0)


class _Normalise(torch.autograd.Function):
    """(x - mean) * inverse * weight + bias, where mean and inverse depend on the x of all processes.

    With n rows in all and y = (x - mean) * inverse:
    dx = inverse * weight * (g - sum(g) / n - y * sum(g y) / n), sums over the rows of all processes. Gradients of
    weight and bias are sums over the own rows; the training loop adds those of the processes.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, inverse: Tensor, share: Tensor
    ) -> Tensor:
        """``share``: 1/n, or 0 where mean and inverse are constants."""
        ctx.save_for_backward(x, weight, mean, inverse, share)
        return ((x - mean) * (inverse * weight) + bias).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, weight and bias."""
        x, weight, mean, inverse, share = ctx.saved_tensors
        grad = grad.to(mean.dtype)
        y = (x - mean) * inverse
        own = torch.stack([grad.sum(0), (grad * y).sum(0)])
        total = own.clone()
        dist.all_reduce(total)
        total *= share
        dx = (inverse * weight) * (grad - total[0] - y * total[1])
        return dx.to(x.dtype), own[1].to(weight.dtype), own[0].to(weight.dtype), None, None, None


def _normalise_with_running_statistics(norm: nn.BatchNorm1d, features: Tensor) -> Tensor:
    return nn.functional.batch_norm(
        features, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
    )
