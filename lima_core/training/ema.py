"""Exponential moving average of all tensors of a module: parameters, and running statistics with them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """The average; its tensors lie beside the module's, under the same names."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = _copies(module)

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Takes in the module after ``step`` (from 0); early steps count more, so that the fresh weights are forgotten.

        The decay is min(decay, (1 + step) / (10 + step)), as in TensorFlow's ExponentialMovingAverage.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                self.tensors[name].lerp_(tensor, 1 - decay)
            else:
                self.tensors[name].copy_(tensor)

    def put_into(self, module: nn.Module) -> None:
        """The module becomes the average."""
        module.load_state_dict(self.tensors)


@contextmanager
def averaged(module: nn.Module, ema: Ema | None) -> Iterator[None]:
    """Within, ``module`` is its average, where there is one; afterwards it is again what it was."""
    if ema is None:
        yield
        return
    before = _copies(module)
    ema.put_into(module)
    try:
        yield
    finally:
        module.load_state_dict(before)


def _copies(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
