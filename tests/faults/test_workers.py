"""Worker processes that die while they work on a scene: killed, as the kernel does when memory runs out."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest

from tests.faults.flow import Flow

pytestmark = pytest.mark.slow


def workers() -> list[psutil.Process]:
    """Processes that are forked for work over scenes."""
    family = psutil.Process().children(recursive=True)
    found = []
    for process in family:
        with suppress(psutil.Error):
            if "forkserver" in " ".join(process.parent().cmdline()):
                found.append(process)
    return found


@contextmanager
def killing(times: int, after_s: float) -> Iterator[list[int]]:
    """Kills so many workers, each so long after it was seen; yields who was killed."""
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        while len(killed) < times and not over.is_set():
            for process in workers():
                if process.pid not in killed and len(killed) < times:
                    time.sleep(after_s)
                    with suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL)
                        killed.append(process.pid)
            time.sleep(0.02)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("after_s", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("kind", ["extract-features", "build-memory"])
def test_a_killed_worker_leaves_no_trace(finished: Flow, kind: str, after_s: float) -> None:
    """While it starts, when it has started, or while it works."""
    finished.forget(kind)
    with killing(1, after_s) as killed:
        finished.build(kind, workers=2)
    assert len(killed) == 1 or after_s == 1.0, "it may have ended before"
    finished.assert_nothing_was_lost(kind)


def test_workers_that_never_start_are_told(finished: Flow) -> None:
    finished.forget("build-memory")
    with killing(1000, 0.0) as killed:
        line = finished.fails("build-memory", workers=2)
    assert len(killed) >= 3 and ("do not start" in line or "died while they worked" in line), line
    assert "--workers" in line
    finished.assert_nothing_was_lost("build-memory")
