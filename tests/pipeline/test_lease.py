"""One holder at a time, whoever dies, sleeps or has a wrong clock."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from lima_core import patience
from lima_core.errors import BusyError
from lima_core.storage import Location, is_file, read_bytes, remove_remote, write_bytes
from pipeline import lease, lock
from pipeline.lease import Rhythm, held

QUICK = Rhythm(beat_s=0.02, stale_s=0.3, settle_s=0.02)
ELSEWHERE = {"host": "node7", "pid": 4242, "space": "another machine", "since": "2025-01-01T00:00:00+00:00"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RHYTHM", QUICK)


@pytest.fixture
def place(memory_work: Location) -> Location:
    return memory_work / ".locks" / "bank-01234567.lock"


def written_elsewhere(beat: int = 0, **told: object) -> bytes:
    return json.dumps({**ELSEWHERE, "token": "theirs", "beat": beat, **told}).encode()


@pytest.fixture
def beating(place: Location) -> Iterator[Callable[[], None]]:
    """Another machine that holds the lease and renews it, until it is told to stop."""
    stop = threading.Event()

    def beat() -> None:
        number = 0
        while not stop.wait(0.02):
            number += 1
            write_bytes(place, written_elsewhere(number))

    write_bytes(place, written_elsewhere())
    thread = threading.Thread(target=beat)
    thread.start()
    yield lambda: (stop.set(), thread.join())
    stop.set()
    thread.join()


def test_it_is_held_renewed_and_given_back(place: Location) -> None:
    with held(place, "bank", False, print) as check:
        first = read_bytes(place)
        time.sleep(0.2)
        check()
        assert json.loads(read_bytes(place))["beat"] > json.loads(first)["beat"]
    assert not is_file(place)


def test_a_holder_that_is_alive_is_named(place: Location, beating: Callable[[], None]) -> None:
    lines: list[str] = []
    pattern = r"^bank: is being built by pid 4242 on node7 since 2025-01-01T00:00:00\+00:00; wait for it, or run again"
    with pytest.raises(BusyError, match=pattern), held(place, "bank", False, lines.append):
        pass
    assert len(lines) == 1 and lines[0].startswith("bank: waiting for pid 4242 on node7")


def test_one_that_waits_goes_on_when_the_holder_is_done(place: Location, beating: Callable[[], None]) -> None:
    timer = threading.Timer(0.5, lambda: (beating(), remove_remote(place)))
    timer.start()
    started = time.monotonic()
    with held(place, "bank", True, lambda line: None) as check:
        assert time.monotonic() - started > 0.5, "longer than stale_s, for it was being renewed"
        check()


def test_a_dead_holder_on_another_machine_is_taken_over(place: Location) -> None:
    write_bytes(place, written_elsewhere())
    lines: list[str] = []
    started = time.monotonic()
    with held(place, "bank", False, lines.append) as check:
        assert time.monotonic() - started > QUICK.stale_s
        check()
    assert lines[1] == "bank: taken over from pid 4242 on node7 since 2025-01-01T00:00:00+00:00, which is gone"


def test_a_dead_process_of_this_machine_is_taken_over_at_once(place: Location) -> None:
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    write_bytes(place, written_elsewhere(pid=int(child.stdout), space=lease._pid_space()))
    started = time.monotonic()
    with held(place, "bank", False, print):
        assert time.monotonic() - started < QUICK.stale_s


def test_what_is_no_lease_is_taken_over(place: Location) -> None:
    for content in (b"", b"no JSON", b"[]"):
        write_bytes(place, content)
        with held(place, "bank", False, print) as check:
            check()


def test_clocks_that_jump_change_nothing(
    place: Location, beating: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    jumps = iter(range(10**6))
    monkeypatch.setattr(time, "time", lambda: 4e9 * (next(jumps) % 2))
    with pytest.raises(BusyError), held(place, "bank", False, lambda line: None):
        pass
    beating()
    with held(place, "bank", False, lambda line: None) as check:
        time.sleep(0.1)
        check()


def contest(place: Location, num: int) -> tuple[list[int], int]:
    """So many want the lease at the same moment: how many had it at a time, and how many were refused."""
    inside, together, refused = [], [], []
    start, done = threading.Barrier(num), threading.Event()

    def contend() -> None:
        start.wait()
        try:
            with held(place, "bank", False, lambda line: None) as check:
                inside.append(1)
                time.sleep(0.1)
                check()
                together.append(len(inside))
                done.wait(5)
        except BusyError:
            refused.append(1)
        if len(refused) == num - 1:
            done.set()

    threads = [threading.Thread(target=contend) for _ in range(num)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return together, len(refused)


def test_of_many_that_want_it_at_once_one_has_it(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_interrupt_main", lambda: None)
    assert contest(place, 6) == ([1], 5)
    write_bytes(place, written_elsewhere())
    assert contest(place, 6) == ([1], 5)


def test_a_holder_that_lost_it_is_interrupted_and_says_to_whom(place: Location) -> None:
    started = time.monotonic()
    pattern = r"was taken over by pid 4242 on node7 .*did not renew its lease in time; nothing is lost; run again"
    with pytest.raises(BusyError, match=pattern), held(place, "bank", False, print):
        write_bytes(place, written_elsewhere())
        time.sleep(5)
    assert time.monotonic() - started < 4
    assert json.loads(read_bytes(place))["token"] == "theirs", "what is another's is left alone"


def test_a_holder_that_was_asleep_asks_before_it_finishes(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RHYTHM", Rhythm(beat_s=60, stale_s=300, settle_s=0.01))
    with held(place, "bank", False, print) as check:
        write_bytes(place, written_elsewhere())
        with pytest.raises(BusyError, match="was taken over by pid 4242"):
            check()


def test_a_lease_that_someone_removed_is_written_anew(place: Location) -> None:
    with held(place, "bank", False, print) as check:
        remove_remote(place)
        time.sleep(0.1)
        check()
        assert is_file(place)


def test_a_storage_that_is_away_for_a_while_costs_nothing(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "WAITS_S", (0.001,))
    with held(place, "bank", False, print) as check:
        with monkeypatch.context() as away:
            away.setattr(type(place.fs), "info", lambda *_: 1 / 0)
            time.sleep(0.2)
        check()


def test_locks_of_a_storage_are_leases(memory_work: Location) -> None:
    artifact = memory_work / "bank-01234567"
    with lock.held(artifact, False, print):
        assert lock.is_held(artifact) and is_file(memory_work / ".locks" / "bank-01234567.lock")
    assert not lock.is_held(artifact)
