"""Scratch memory that all layers of a step share."""

from threading import get_ident

import torch
from torch import Tensor


class Workspace:
    """Named buffers that grow to the largest use and are handed out again and again.

    On a CPU a large fresh tensor costs a page fault for every 4 KiB; on CUDA the caching allocator does the same as
    this. A buffer is valid until its name is asked for again by the same thread.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple, Tensor] = {}

    def rows(self, name: str, num_rows: int, like: Tensor, channels: int) -> Tensor:
        """(num_rows, channels) uninitialised, of the dtype and on the device of ``like``."""
        if like.is_cuda:
            return like.new_empty(num_rows, channels)
        key, size = (name, like.dtype, get_ident()), num_rows * channels
        if key not in self._buffers or self._buffers[key].numel() < size:
            self._buffers[key] = torch.empty(size, dtype=like.dtype, device=like.device)
        return self._buffers[key][:size].view(num_rows, channels)
