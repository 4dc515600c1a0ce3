"""The distance of unit vectors in closed form."""

import math

import torch

from lima_core.methods.losses import unit_distance


def test_distance_follows_the_angle_and_not_the_length() -> None:
    target = torch.tensor([[1.0, 0.0]] * 3)
    student = torch.tensor([[5.0, 0.0], [0.0, 0.1], [-2.0, 0.0]])
    torch.testing.assert_close(unit_distance(student, target), torch.tensor((0 + math.sqrt(2) + 2) / 3))


def test_a_perfect_student_has_a_finite_gradient() -> None:
    student = torch.tensor([[3.0, 0.0]], requires_grad=True)
    unit_distance(student, torch.tensor([[1.0, 0.0]])).backward()
    assert torch.isfinite(student.grad).all()


def test_nothing_taught_is_a_zero_loss_with_a_gradient() -> None:
    student = torch.zeros(0, 4, requires_grad=True)
    loss = unit_distance(student, torch.zeros(0, 4))
    loss.backward()
    assert loss.item() == 0
