"""Lovasz-softmax: a convex surrogate of the mean IoU (Berman et al., CVPR 2018, algorithm 1), all classes at once.

It is a function of the set of all points, so several processes show each other theirs and each differentiates its own.

The loss is linear in the errors once their order is known, so only that product is differentiated; the rest, sorting
above all, runs without autograd. It dominates the cost of a probe on a CPU: 60 000 voxels of 12 classes take 0.1 s, and
every process sorts those of all.
"""

import numpy as np
import torch
from torch import Tensor

from lima_core.training.distributed import ALONE, World


def _descending(errors: Tensor) -> Tensor:
    """(K, P) int64: for every row the order in which its values fall."""
    if errors.is_cuda:
        return errors.argsort(dim=1, descending=True)
    return torch.from_numpy(np.argsort(-errors.numpy(), axis=1))  # vectorised, four times as fast as torch on a CPU


@torch.no_grad()
def _jaccard_slopes(errors: Tensor, truth: Tensor) -> Tensor:
    """(K, P) derivative of every class's Lovasz-extended Jaccard loss by the error of every point.

    Args:
        errors: (K, P) float32.
        truth: (K, P) bool, the point is of the class.
    """
    order = _descending(errors)
    truth_sorted = truth.gather(1, order)
    hits = truth_sorted.sum(1, keepdim=True, dtype=torch.int32)
    found = truth_sorted.cumsum(1, dtype=torch.int32)
    rank = torch.arange(1, truth.shape[1] + 1, device=truth.device, dtype=torch.int32)
    jaccard = 1 - (hits - found) / (hits + rank - found)
    slopes = torch.diff(jaccard, dim=1, prepend=jaccard.new_zeros(len(jaccard), 1))
    return torch.empty_like(slopes).scatter_(1, order, slopes)


def lovasz_softmax(probabilities: Tensor, labels: Tensor, world: World = ALONE) -> Tensor:
    """Mean over the classes that occur in ``labels`` of the Lovasz extension of their Jaccard loss.

    With several processes the set is that of all their points, and this is the part of the own ones, times all points
    over own points: the mean of it weighted by own points, which the training loop takes, is the loss of the whole set,
    and the sum of the gradients is its gradient. All processes must call this alike, those without points too.

    Args:
        probabilities: (P, K) float32 or float64, rows sum to 1.
        labels: (P,) int64 in 0..K-1; points without a class are left out before. 0 points give 0.
        world: the processes whose points are one set.

    Returns:
        Scalar, of one process in 0..1.
    """
    everyone = world.rows(torch.cat([probabilities.detach(), labels[:, None].to(probabilities.dtype)], 1))
    if not len(labels):
        return probabilities.sum()
    table, first = torch.cat(everyone), sum(len(rows) for rows in everyone[: world.rank])
    labels_of_all = table[:, -1].long()
    present = labels_of_all.unique()
    truth = labels_of_all == present[:, None]
    slopes = _jaccard_slopes((truth.to(table.dtype) - table.T[present]).abs(), truth)
    own = slice(first, first + len(labels))
    errors = (truth[:, own].to(table.dtype) - probabilities.T[present]).abs()
    return (errors * slopes[:, own]).sum(1).mean() * (len(table) / len(labels))
