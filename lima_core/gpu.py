"""What is said where a GPU is too small, or is not there."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lima_core.errors import ConfigError, UserError

TRAINING = "raise fit.accumulate, lower fit.batch_size, or give --checkpoint-activations"


@contextmanager
def full_memory_told(where: str, remedy: str = TRAINING) -> Iterator[None]:
    """Turns the error of a full GPU into one line about ``where``, with what to do.

    Raises:
        UserError: the GPU's memory is too small.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        what = f"out of GPU memory ({str(error).split('.')[0]})"
        raise UserError(what, where=where, remedy=remedy) from None


def require_device(device: str) -> None:
    """Checks in a worker that it has the device that its parts are to be done on.

    Raises:
        ConfigError: they are for a GPU, and torch sees none here.
    """
    if device != "cpu" and not torch.cuda.is_available():
        what, remedy = "declares the resource GPU, but torch sees none", "start it where there is one, or without"
        raise ConfigError(what, where=f"worker on {platform.node()}", remedy=remedy)
