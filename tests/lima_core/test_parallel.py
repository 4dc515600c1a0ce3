"""Results keep their order, in this process and in others, and an error of a part comes through as itself."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from threadpoolctl import threadpool_info

from lima_core import cluster
from lima_core.errors import DataError, UserError
from lima_core.parallel import map_parts
from lima_core.types import Resources


def squared(part: int) -> tuple[int, int]:
    return part**2, os.getpid()


def broken(at: int, part: int) -> int:
    if part == at:
        raise DataError("nothing in it", where=f"part {part}", remedy="leave it out")
    return part


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_the_order_of_the_parts(workers: int) -> None:
    results = map_parts(squared, [3, 1, 4, 1, 5], Resources(workers=workers), "test")
    assert [value for value, _ in results] == [9, 1, 16, 1, 25]
    own = {pid == os.getpid() for _, pid in results}
    assert own == {workers == 0}


def most_threads(part: int) -> int:
    np.ones((2, 2)) @ np.ones((2, 2))
    return max(library["num_threads"] for library in threadpool_info())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_part_works_on_one_thread_wherever_it_runs(workers: int) -> None:
    assert map_parts(most_threads, [1, 2], Resources(workers=workers), "test") == [1, 1]


def full_disk(part: int) -> int:
    raise OSError(errno.ENOSPC, "No space left on device", f"/data/{part}")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk_keeps_its_number_and_file(workers: int) -> None:
    with pytest.raises(OSError) as caught:
        map_parts(full_disk, [1, 2], Resources(workers=workers), "test")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename in ("/data/1", "/data/2")  # of two workers either may be the first


def sleeper(folder: str, part: int) -> int:
    Path(folder, f"started-{part}").touch()
    time.sleep(30)
    Path(folder, f"finished-{part}").touch()
    return part


PARENT = """
from functools import partial
from lima_core.parallel import map_parts
from lima_core.types import Resources
from tests.lima_core.test_parallel import sleeper
if __name__ == "__main__":
    map_parts(partial(sleeper, {folder!r}), [1, 2], Resources(workers=2), "sleep")
"""


def test_workers_die_with_a_killed_run(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(folder=str(tmp_path)))
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen([sys.executable, str(script)], env=environment, stderr=subprocess.DEVNULL)
    wait_for(lambda: (tmp_path / "started-1").exists() and (tmp_path / "started-2").exists())
    workers = psutil.Process(run.pid).children(recursive=True)
    assert len(workers) >= 2
    run.kill()
    run.wait()
    wait_for(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers))
    assert not list(tmp_path.glob("finished-*"))


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_users_error_comes_through_in_one_line(workers: int) -> None:
    with pytest.raises(DataError, match=r"^part 2: nothing in it; leave it out$"):
        map_parts(partial(broken, 2), [1, 2, 3], Resources(workers=workers), "test")


def deadly(folder: Path, deaths: int, part: int) -> int:
    """Kills its process in part 1, so many times."""
    died = len(list(folder.iterdir()))
    if part == 1 and died < deaths:
        (folder / str(died)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return part


def test_a_killed_worker_is_replaced_and_its_part_done_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert map_parts(partial(deadly, tmp_path, 2), [0, 1, 2, 3], Resources(workers=2), "test") == [0, 1, 2, 3]
    assert len(list(tmp_path.iterdir())) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 4 and all(line.startswith("test ") and line.endswith("workers=2") for line in lines)


def test_a_part_that_kills_every_worker_is_named(tmp_path: Path) -> None:
    told = r"^scene 1: 4 worker processes died while they worked on it; memory may have run out: give fewer --workers"
    with pytest.raises(UserError, match=told):
        map_parts(partial(deadly, tmp_path, 99), [0, 1, 2, 3], Resources(workers=2), "test")


def test_progress_is_one_greppable_line_a_part(capsys: pytest.CaptureFixture[str]) -> None:
    map_parts(squared, [1, 2], Resources(), "squares", "numbers")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" elapsed=")[0] for line in lines] == ["squares 1/2 numbers", "squares 2/2 numbers"]
    assert all("eta=" in line for line in lines)


def test_workers_of_this_machine_listen_on_loopback_alone() -> None:
    with cluster.connected(Resources(workers=2), num_parts=3) as client:
        client.wait_for_workers(2)
        own = psutil.Process()
        found = [c for p in (own, *own.children(recursive=True)) for c in p.net_connections("inet")]
        listening = {connection.laddr.ip for connection in found if connection.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}
