"""The largest memory that this process, or it and its children together, held, or a GPU."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

import psutil

Held = Callable[[], int]


@contextmanager
def peak_memory(device: str, held: Held, every_s: float = 0.05) -> Iterator[list[int]]:
    """Yields a list of one number, bytes, that is known afterwards.

    Args:
        device: on a GPU what torch allocated there is told; else what ``held`` says.
        held: ``process_bytes`` or ``tree_bytes``.
        every_s: how often it is asked.
    """
    found = [0]
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        yield found
        found[0] = torch.cuda.max_memory_allocated(device)
        return
    ended = Event()
    watcher = Thread(target=_watch, args=(found, ended, held, every_s), name="peak-memory", daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        ended.set()
        watcher.join()
        found[0] = max(found[0], held())


def process_bytes() -> int:
    """Resident memory of this process."""
    return psutil.Process().memory_info().rss


def tree_bytes() -> int:
    """Resident memory of this process and all below it; pages that they share count for each."""
    total = process_bytes()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it may end just now
            total += child.memory_info().rss
    return total


def _watch(found: list[int], ended: Event, held: Held, every_s: float) -> None:
    while not ended.wait(every_s):
        found[0] = max(found[0], held())
