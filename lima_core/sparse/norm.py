"""Batch normalisation of sparse tensors."""

from torch import Tensor, nn

from lima_core.sparse.tensor import SparseTensor


class SparseBatchNorm(nn.Module):
    """Batch normalisation over all voxels of the batch.

    Fewer than two voxels have no variance: they are normalised with the running statistics, which stay as they are
    (a scan of a few metres has one voxel left at stride 16). The statistics live in an ordinary ``nn.BatchNorm1d``,
    so ``nn.SyncBatchNorm.convert_sync_batchnorm`` works; synchronised, the batch of all processes counts.
    """

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels, eps=eps, momentum=momentum)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Same shape."""
        if self.training and len(x) < 2 and isinstance(self.norm, nn.BatchNorm1d):
            return x.replace(_normalise_with_running_statistics(self.norm, x.features))
        return x.replace(self.norm(x.features))


def _normalise_with_running_statistics(norm: nn.BatchNorm1d, features: Tensor) -> Tensor:
    return nn.functional.batch_norm(
        features, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
    )
