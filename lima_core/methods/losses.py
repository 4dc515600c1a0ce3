"""Losses of the pre-training methods, in float32."""

import torch
from torch import Tensor
from torch.nn import functional


def unit_distance(student: Tensor, target: Tensor) -> Tensor:
    """Mean Euclidean distance of unit vectors, ScaLR's objective (utils/distiller.py): from 0 to 2.

    Args:
        student: (M, C) any float, normalised here.
        target: (M, C) float32 of unit length.

    Returns:
        A scalar; 0 with a zero gradient where nothing is taught.
    """
    if not len(student):
        return student.float().sum()
    difference = functional.normalize(student.float(), dim=1) - target
    return torch.linalg.vector_norm(difference, dim=1).mean()
