"""What is said when a GPU's memory is too small for a training."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lima_core.errors import UserError


@contextmanager
def full_memory_told(where: str) -> Iterator[None]:
    """Turns the error of a full GPU into one line about ``where``, with what to do.

    Raises:
        UserError: the GPU's memory is too small.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        what = f"out of GPU memory ({str(error).split('.')[0]})"
        remedy = "raise fit.accumulate, lower fit.batch_size, or give --checkpoint-activations"
        raise UserError(what, where=where, remedy=remedy) from None
