"""Lovasz-softmax: a convex surrogate of the mean IoU (Berman et al., CVPR 2018, algorithm 1), all classes at once."""

import torch
from torch import Tensor


def _jaccard_slopes(truth_sorted: Tensor) -> Tensor:
    """(P, K) gradient of the Lovasz extension of the Jaccard loss, for errors in descending order.

    Args:
        truth_sorted: (P, K) float, 1 where the point at that rank is of the class.
    """
    hits = truth_sorted.sum(0)
    intersection = hits - truth_sorted.cumsum(0)
    union = hits + (1 - truth_sorted).cumsum(0)
    jaccard = 1 - intersection / union
    return torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])


def lovasz_softmax(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Mean over the classes that occur in ``labels`` of the Lovasz extension of their Jaccard loss.

    Args:
        probabilities: (P, K) float32, rows sum to 1.
        labels: (P,) int64 in 0..K-1; points without a class are left out before. 0 points give 0.

    Returns:
        Scalar float32 in 0..1.
    """
    if not len(labels):
        return probabilities.sum()
    truth = torch.nn.functional.one_hot(labels, probabilities.shape[1]).to(probabilities.dtype)
    errors, order = (truth - probabilities).abs().sort(dim=0, descending=True)
    slopes = _jaccard_slopes(truth.gather(0, order))
    per_class = (errors * slopes).sum(0)
    present = truth.any(0)
    return per_class[present].mean()
