"""What a command settles about its own process before torch and NumPy are loaded."""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's ``malloc.h``."""
LARGEST = 1 << 30
"""glibc keeps blocks up to this size in its own heap when they are freed."""


def set_threads(threads: int | None = None) -> None:
    """As many threads as cores, or ``threads``; what the user has set stays."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads or len(os.sched_getaffinity(0))))


def keep_freed_memory() -> bool:
    """Lets glibc keep freed memory for the next allocation instead of handing it back to the system.

    A training step on a CPU frees and asks for the same gigabytes again and again; handed back, each 4 KiB page of them
    costs a page fault. The process then stays as large as it once was. Returns False where there is no glibc.
    """
    if not sys.platform.startswith("linux") or "MALLOC_TRIM_THRESHOLD_" in os.environ:
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return bool(libc.mallopt(M_MMAP_THRESHOLD, LARGEST)) and bool(libc.mallopt(M_TRIM_THRESHOLD, 2 * LARGEST - 1))
