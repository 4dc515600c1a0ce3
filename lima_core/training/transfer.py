"""Batches on their way to a GPU: page-locked by the loader threads, copied beside the work on the batch before."""

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor

from lima_core.gpu import full_memory_told
from lima_core.training.tensors import map_tensors, moved, tensors_of

Loaded = TypeVar("Loaded")


def pinned(batch: Loaded) -> Loaded:
    """The batch in page-locked memory, from where a GPU takes it while it computes."""
    return map_tensors(Tensor.pin_memory, batch)


def arriving(loaded: Iterator[Loaded], device: str) -> Iterator[Loaded]:
    """Yields batches on ``device``, in order. On CUDA the next one is copied while the caller works on this one.

    Args:
        loaded: batches on the CPU, page-locked where ``device`` is a GPU.
        device: torch device; batches for a CPU pass as they are.

    Raises:
        UserError: the GPU's memory is too small for two batches.
    """
    if not device.startswith("cuda"):
        yield from loaded
        return
    stream = torch.cuda.Stream(device)
    coming: tuple[Loaded, torch.cuda.Event] | None = None
    for batch in loaded:
        following = _copied(batch, device, stream)
        if coming is not None:
            yield _arrived(*coming, device)
        coming = following
    if coming is not None:
        yield _arrived(*coming, device)


def _copied(batch: Loaded, device: str, stream: torch.cuda.Stream) -> tuple[Loaded, torch.cuda.Event]:
    """The batch on its way, and the event of its arrival; the CPU does not wait."""
    with full_memory_told("the next batch"), torch.cuda.stream(stream):
        return moved(batch, device), stream.record_event()


def _arrived(batch: Loaded, event: torch.cuda.Event, device: str) -> Loaded:
    """The batch, for use in the current stream, which waits for it; the CPU does not."""
    current = torch.cuda.current_stream(device)
    current.wait_event(event)
    for tensor in tensors_of(batch):
        tensor.record_stream(current)  # else the copying stream would take its memory for the next batch too early
    return batch
