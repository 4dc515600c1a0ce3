"""Lovasz-softmax against the definition: the Lovasz extension of the Jaccard set function, computed set by set."""

import pytest
import torch
from torch import Tensor

from lima_core.tasks.lovasz import lovasz_softmax


def jaccard_loss(mispredicted: set[int], truth: set[int]) -> float:
    """1 - IoU of a class whose wrong points are ``mispredicted`` (Berman et al., equation 6)."""
    return len(mispredicted) / len(truth | mispredicted)


def brute_force(probabilities: Tensor, labels: Tensor) -> float:
    losses = []
    for k in sorted(set(labels.tolist())):
        truth = {i for i, label in enumerate(labels.tolist()) if label == k}
        errors = [abs((i in truth) - p) for i, p in enumerate(probabilities[:, k].tolist())]
        order = sorted(range(len(errors)), key=lambda i: -errors[i])
        total, chosen = 0.0, set()
        for i in order:
            total += errors[i] * (jaccard_loss(chosen | {i}, truth) - jaccard_loss(chosen, truth))
            chosen.add(i)
        losses.append(total)
    return sum(losses) / len(losses)


@pytest.mark.parametrize(("num_points", "num_classes"), [(1, 2), (2, 2), (7, 3), (60, 5)])
def test_is_the_definition(num_points: int, num_classes: int) -> None:
    generator = torch.Generator().manual_seed(num_points)
    probabilities = torch.randn(num_points, num_classes, generator=generator).softmax(1)
    labels = torch.randint(0, num_classes - 1, (num_points,), generator=generator)  # the last class is absent
    assert lovasz_softmax(probabilities, labels).item() == pytest.approx(brute_force(probabilities, labels), abs=1e-6)


def test_ends_of_the_scale() -> None:
    labels = torch.tensor([0, 1, 2, 1])
    truth = torch.nn.functional.one_hot(labels, 3).float()
    assert lovasz_softmax(truth, labels).item() == 0
    assert lovasz_softmax(truth.roll(1, dims=1), labels).item() == pytest.approx(1)


def test_gradient_is_finite_and_goes_down() -> None:
    logits = torch.zeros(50, 4, requires_grad=True)  # all errors tie
    labels = torch.arange(50) % 3
    before = lovasz_softmax(logits.softmax(1), labels)
    before.backward()
    assert torch.isfinite(logits.grad).all() and logits.grad.abs().sum() > 0
    after = lovasz_softmax((logits - 5 * logits.grad).softmax(1), labels)
    assert after < before


def test_no_points() -> None:
    logits = torch.zeros(0, 4, requires_grad=True)
    loss = lovasz_softmax(logits.softmax(1), torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
