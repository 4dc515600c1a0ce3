"""Loading ahead: order, errors, and no more than asked for."""

import threading
import time

import pytest
import torch

from lima_core.errors import UserError
from lima_core.training.prefetch import ahead


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_order_is_kept(workers: int) -> None:
    def load(job: int) -> int:
        time.sleep(0.002 * (job % 3))
        return job * job

    assert list(ahead(load, range(20), workers)) == [job * job for job in range(20)]


@pytest.mark.parametrize("workers", [0, 2])
def test_error_comes_in_its_place_and_ends_the_threads(workers: int) -> None:
    def load(job: int) -> int:
        if job == 3:
            raise ValueError("three")
        return job

    seen = []
    with pytest.raises(ValueError, match="three"):
        for item in ahead(load, range(100), workers):
            seen.append(item)
    assert seen == [0, 1, 2]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("load")]


def test_only_so_many_are_loaded_ahead() -> None:
    loaded = []
    batches = ahead(lambda job: loaded.append(job), range(100), 2)
    next(batches)
    time.sleep(0.05)
    assert len(loaded) <= 4
    batches.close()


@pytest.mark.parametrize("workers", [1, 3])
def test_loaders_work_on_one_thread_each_and_leave_ours_alone(workers: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert list(ahead(lambda _: torch.get_num_threads(), range(8), workers)) == [1] * 8
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_thread_that_cannot_be_started_lets_the_others_go(monkeypatch: pytest.MonkeyPatch) -> None:
    before, start = torch.get_num_threads(), threading.Thread.start

    def starts(thread: threading.Thread) -> None:
        if thread.name == "load_2":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starts)
    with pytest.raises(UserError, match=r"^3 loader threads cannot be started \(can't start new thread\); give fewer"):
        next(ahead(str, range(9), 3))
    assert torch.get_num_threads() == before
    left = [thread for thread in threading.enumerate() if thread.name.startswith("load_")]
    for thread in left:
        thread.join(5)
    assert not any(thread.is_alive() for thread in left)


def test_an_interrupt_while_threads_start_lets_them_go(monkeypatch: pytest.MonkeyPatch) -> None:
    real = threading.Barrier.wait

    def wait(barrier: threading.Barrier, timeout: float | None = None) -> int:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        return real(barrier, timeout)

    monkeypatch.setattr(threading.Barrier, "wait", wait)
    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        next(ahead(str, range(9), 3))
    assert torch.get_num_threads() == before
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("load_")]
