"""The loss of the task in two processes: together they have the gradient of one that holds all rows."""

import numpy as np
import pytest
import torch

from lima_core.tasks.segmentation import SegmentationConfig, segmentation_loss
from lima_core.training.distributed import World
from lima_core.types import IGNORE
from tests.lima_core.training.processes import together

CASES = {"unequal": (7, 40), "one class each": (5, 5), "nothing here": (0, 9), "nothing anywhere": (0, 0)}
"""Labelled rows of both processes."""
Half = tuple[float, int, np.ndarray, dict[str, float]]


def rows_of(name: str) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """(P, 4) float64 logits and (P,) labels of both processes; each has three rows without a class besides."""
    generator, logits, labels = torch.Generator().manual_seed(3), [], []
    for rank, num in enumerate(CASES[name]):
        own = torch.randint(0, 3, (num,), generator=generator) if name == "unequal" else torch.full((num,), rank)
        labels.append(torch.cat([own, torch.full((3,), IGNORE)]))
        logits.append(torch.randn(num + 3, 4, generator=generator, dtype=torch.float64))
    return logits, labels


def halves(rank: int, size: int) -> dict[str, Half]:
    """As the training loop does: every process's mean times its count."""
    found = {}
    for name in CASES:
        logits, labels = (of_all[rank] for of_all in rows_of(name))
        logits.requires_grad_()
        loss = segmentation_loss(logits, labels, SegmentationConfig(), World(rank, size))
        (loss.value * loss.count).backward()
        numbers = {key: float(value) for key, value in loss.numbers.items()}
        found[name] = (loss.value.item(), loss.count, logits.grad.numpy(), numbers)
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Half]]:
    answers = together(halves, 2, tmp_path_factory.mktemp("halves") / "meet")
    assert all(isinstance(answer, dict) for answer in answers), "\n".join(map(str, answers))
    return answers


@pytest.mark.parametrize("name", CASES)
def test_two_processes_have_the_loss_and_gradient_of_one(name: str, found: list[dict[str, Half]]) -> None:
    logits, labels = (torch.cat(of_all) for of_all in rows_of(name))
    logits.requires_grad_()
    whole = segmentation_loss(logits, labels, SegmentationConfig())
    whole.value.backward()
    values, counts, gradients, numbers = zip(*(answer[name] for answer in found), strict=True)
    count = max(1, sum(counts))
    assert counts == CASES[name] and sum(counts) == whole.count
    assert np.dot(values, counts) / count == pytest.approx(whole.value.item(), rel=1e-13)
    assert np.allclose(np.concatenate(gradients) / count, logits.grad.numpy(), rtol=1e-12, atol=1e-15)
    for key, value in whole.numbers.items():
        assert np.dot([n[key] for n in numbers], counts) / count == pytest.approx(float(value), rel=1e-13)
