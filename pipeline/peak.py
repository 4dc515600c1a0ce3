"""The largest memory that this process and its children held together, or a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

import psutil

EVERY_S = 0.05


@contextmanager
def peak_memory(device: str) -> Iterator[list[int]]:
    """Yields a list of one number, bytes, that is known afterwards: on a GPU what torch allocated there."""
    found = [0]
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        yield found
        found[0] = torch.cuda.max_memory_allocated(device)
        return
    ended = Event()
    watcher = Thread(target=_watch, args=(found, ended), name="peak-memory", daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        ended.set()
        watcher.join()


def tree_bytes() -> int:
    """Resident memory of this process and all below it; pages that they share count for each."""
    this = psutil.Process()
    total = this.memory_info().rss
    for child in this.children(recursive=True):
        with suppress(psutil.Error):  # it may end just now
            total += child.memory_info().rss
    return total


def _watch(found: list[int], ended: Event) -> None:
    found[0] = tree_bytes()
    while not ended.wait(EVERY_S):
        found[0] = max(found[0], tree_bytes())
