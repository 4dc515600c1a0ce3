"""What a command settles about its own process before torch and NumPy are loaded."""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's ``malloc.h``."""
LARGEST = (1 << 30, 1 << 25)
"""glibc keeps blocks up to this size in its own heap when they are freed; older ones allow no more than the second."""
SET_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def set_threads(threads: int | None = None) -> None:
    """As many threads as cores, or ``threads``; what the user has set stays."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads or len(os.sched_getaffinity(0))))


def keep_freed_memory() -> bool:
    """Lets glibc keep freed memory for the next allocation instead of handing it back to the system.

    A training step on a CPU frees and asks for the same gigabytes again and again; handed back, each 4 KiB page of them
    costs a page fault. The process then stays as large as it once was. Returns False where there is no glibc, or where
    the user has settled this.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in SET_BY_USER):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    kept = any(libc.mallopt(M_MMAP_THRESHOLD, largest) for largest in LARGEST)
    return bool(libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)) and kept
