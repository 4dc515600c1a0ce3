"""What tests have workers do; it imports nothing that takes long."""

import errno
import os
import time
from pathlib import Path

from lima_core.errors import DataError


def worker_of(part: int) -> tuple[int, int]:
    time.sleep(0.05)
    return part, os.getpid()


def broken(at: int, part: int) -> int:
    if part == at:
        raise DataError("nothing in it", where=f"part {part}", remedy="leave it out")
    if part == at + 1:
        raise OSError(errno.ENOSPC, "No space left on device", f"/data/{part}")
    return 1 // (part + 1)


def waits_for(go: Path, part: int) -> int:
    (go / f"started-{part}").touch()
    while not (go / "go").exists():
        time.sleep(0.02)
    return part


def slowly(go: Path, part: int) -> int:
    time.sleep(0.5)
    return part
