"""Locks that are held, lost or stale, and clocks that jump."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lima_core.errors import BusyError
from pipeline import lock, manifest
from tests.faults.flow import Flow

HOLD = """
import sys, time
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""
YEAR_S = 365 * 24 * 3600.0


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen]:
    """The lock file is locked by another process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def note(flow: Flow, kind: str, **told: object) -> Path:
    """A lock and the note beside it, as a process leaves them that was killed."""
    path = lock.lock_path(flow.folder(kind))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    path.with_suffix(".json").write_text(json.dumps(told))
    return path


@pytest.mark.parametrize("kind", ["index", "build-memory", "distill"])
def test_a_lock_held_by_a_living_process_is_respected(finished: Flow, kind: str) -> None:
    finished.forget(kind)
    path = note(finished, kind, host="node7", pid=4242, since="2025-01-01T00:00:00+00:00")
    with held_elsewhere(path):
        line = finished.fails(kind)
        assert "is being built by pid 4242 on node7 since 2025" in line and "--wait" in line, line
        assert not finished.folder(kind).exists()
    finished.assert_nothing_was_lost(kind)


@pytest.mark.parametrize("host", [platform.node(), "another-host"])
@pytest.mark.parametrize("kind", ["extract-features", "finetune"])
def test_what_the_dead_have_locked_is_free(finished: Flow, kind: str, host: str) -> None:
    """The note says so, on this host or another; the kernel knows better."""
    finished.forget(kind)
    path = note(finished, kind, host=host, pid=2**22 - 3, since="2025-01-01T00:00:00+00:00")
    finished.assert_nothing_was_lost(kind)
    assert not path.with_suffix(".json").exists(), "a note that misleads"


def test_a_holder_that_is_killed_sets_the_lock_free(finished: Flow) -> None:
    finished.forget("build-memory")
    with held_elsewhere(lock.lock_path(finished.folder("build-memory"))) as process:
        finished.fails("build-memory")
        process.kill()
        process.wait()
        finished.assert_nothing_was_lost("build-memory")


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"pid": 1}'], ids=repr)
def test_an_unreadable_note_does_no_harm(finished: Flow, text: str) -> None:
    finished.forget("index")
    path = note(finished, "index")
    path.with_suffix(".json").write_text(text)
    with held_elsewhere(path):
        assert "is being built by another process" in finished.fails("index")
    finished.assert_nothing_was_lost("index")


@pytest.mark.parametrize("kind", ["build-memory", "distill"])
def test_a_lock_that_is_removed_meanwhile_is_noticed(
    finished: Flow, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Someone cleans the folder of locks while a stage works: another process could begin the same artifact."""
    finished.forget(kind)
    stage = finished.node(kind).stage
    real = stage.run

    def run(*words: object) -> object:
        lock.lock_path(finished.folder(kind)).unlink()
        return real(*words)

    monkeypatch.setattr(stage, "run", run)
    with pytest.raises(BusyError, match=r"was removed while its artifact was built.*run again"):
        finished.build(kind)
    assert not finished.folder(kind).exists()
    monkeypatch.undo()
    finished.assert_nothing_was_lost(kind)


@pytest.mark.parametrize("jump_s", [-YEAR_S, -3600.0, 3600.0, 10 * YEAR_S], ids=["year back", "back", "ahead", "years"])
def test_the_clock_jumps_while_an_experiment_is_built(
    fresh: Flow, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    """Every call for the time finds it further off; nothing but what manifests tell of it may change."""
    calls, real = iter(range(10**9)), time.time

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime.fromtimestamp(real(), UTC) + timedelta(seconds=jump_s * (next(calls) % 2))

    monkeypatch.setattr(time, "time", lambda: real() + jump_s * (next(calls) % 2))
    for module in (manifest, lock):
        monkeypatch.setattr(module, "datetime", Clock)
    fresh.build()
    monkeypatch.undo()
    fresh.assert_nothing_was_lost()


@pytest.mark.parametrize("moment", [0.0, 2**31 + 5.0], ids=["1970", "2038"])
def test_times_of_files_decide_nothing(finished: Flow, moment: float) -> None:
    """Artifacts and recordings from the future, or from 1970, are what they were."""
    for path in (*finished.raw.rglob("*"), *finished.work.rglob("*")):
        os.utime(path, (moment, moment))
    said: list[str] = []
    finished.build(say=said.append)
    assert all("cached" in line for line in said), said
    finished.forget("evaluate", "distill")
    finished.assert_nothing_was_lost()


def test_two_artifacts_of_one_moment_and_one_from_the_future_are_told_apart(finished: Flow) -> None:
    """A manifest that says it was made in years to come does not hide the artifact that is wanted."""
    path = finished.folder("index") / "manifest.json"
    whole = path.read_bytes()
    record = json.loads(whole)
    record["created"] = "2999-01-01T00:00:00+00:00"
    path.write_text(json.dumps(record))
    finished.forget("build-memory")
    finished.assert_nothing_was_lost("build-memory")
