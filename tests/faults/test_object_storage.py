"""An object storage that stops answering at any moment of a run, loses what it said it had, or answers short."""

import errno
from collections.abc import Iterator

import pytest

from lima_core import patience
from lima_core.storage import Location, files_below, location, read_bytes, remove_remote
from pipeline import lease
from tests.faults.flow import Flow
from tests.object_storage import UnsteadyFileSystem


@pytest.fixture
def elsewhere(fresh: Flow, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flow]:
    """The work folder is on a storage that is to have trouble; nobody waits before a new try."""
    monkeypatch.setattr(patience, "sleep", lambda seconds: None)
    # A lease that could not be given back is taken over at once when its process has ended; this one goes on.
    monkeypatch.setattr(lease, "RHYTHM", lease.Rhythm(beat_s=0.2, stale_s=0.6, settle_s=0.05))
    monkeypatch.setenv("XDG_CACHE_HOME", str(fresh.work.parent / "cache"))
    monkeypatch.setattr(UnsteadyFileSystem, "calls", {})
    UnsteadyFileSystem.store.clear()
    fresh.work = location("unsteady://bucket/work")
    yield fresh
    UnsteadyFileSystem.store.clear()


def data_there(work: Location) -> dict[str, bytes]:
    """The data of every artifact on a storage, as ``data_of`` has it for a folder."""
    names = [name for name in files_below(work) if "/" in name and not name.startswith(".")]
    parts = {name: name.split("/") for name in names}
    told = ("manifest.json", "checksums.json")
    wanted = [name for name in names if parts[name][-1] not in told and parts[name][1] != "logs"]
    return {name: read_bytes(work.joinpath(*parts[name])) for name in wanted}


def assert_nothing_was_lost(flow: Flow) -> None:
    flow.build()
    found, wanted = data_there(flow.work), {n: d for n, d in flow.expected.items() if not n.startswith(".")}
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name]] == []


@pytest.mark.parametrize(
    ("asked", "first"),
    [
        ("read", 12),
        ("write", 5),
        ("list", 6),
        *(pytest.param(*it, marks=pytest.mark.slow) for it in (("read", 1), ("read", 60), ("write", 1), ("list", 1))),
    ],
)
def test_a_storage_that_stops_answering_is_told_and_the_run_goes_on_later(
    elsewhere: Flow, monkeypatch: pytest.MonkeyPatch, asked: str, first: int
) -> None:
    """From the n-th reading, writing or listing on nothing is answered, whoever asks."""

    def trouble(name: str, number: int) -> Exception | None:
        gone = UnsteadyFileSystem.calls.get(asked, 0) >= first
        return ConnectionError(errno.ECONNREFUSED, "Connection refused") if gone else None

    monkeypatch.setattr(UnsteadyFileSystem, "trouble", staticmethod(trouble))
    line = elsewhere.fails()
    assert "cannot be reached, tried 8 times" in line and "run again" in line, line
    assert "unsteady://bucket/work" in line, line
    monkeypatch.setattr(UnsteadyFileSystem, "trouble", staticmethod(lambda name, number: None))
    assert_nothing_was_lost(elsewhere)


def test_every_third_answer_fails_and_no_one_notices(elsewhere: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        UnsteadyFileSystem,
        "trouble",
        staticmethod(lambda name, number: ConnectionError("reset by peer") if number % 3 == 0 else None),
    )
    assert_nothing_was_lost(elsewhere)


def test_answers_that_are_cut_short_are_asked_again(elsewhere: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UnsteadyFileSystem, "cut_every", 4)
    monkeypatch.setattr(UnsteadyFileSystem, "cut_bytes", 5)
    assert_nothing_was_lost(elsewhere)


def test_credentials_that_expire_are_told_at_once(elsewhere: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def trouble(name: str, number: int) -> Exception | None:
        if UnsteadyFileSystem.calls.get("write", 0) < 5:
            return None
        asked.append(name)
        return type("ExpiredToken", (Exception,), {})("The provided token has expired")

    monkeypatch.setattr(UnsteadyFileSystem, "trouble", staticmethod(trouble))
    line = elsewhere.fails()
    assert "credentials have expired" in line and "AWS_ACCESS_KEY_ID" in line, line
    monkeypatch.setattr(UnsteadyFileSystem, "trouble", staticmethod(lambda name, number: None))
    assert_nothing_was_lost(elsewhere)


@pytest.mark.parametrize("kind", ["build-memory", "distill"])
def test_a_manifest_that_vanished_from_the_storage(elsewhere: Flow, kind: str) -> None:
    """Without it there is no artifact; what lies there is gone on with, or replaced."""
    elsewhere.build()
    remove_remote(elsewhere.folder(kind) / "manifest.json")
    assert_nothing_was_lost(elsewhere)


def test_a_scene_that_vanished_from_the_storage_is_named(elsewhere: Flow) -> None:
    elsewhere.build("build-memory")
    remove_remote(elsewhere.folder("build-memory") / "memory.zarr" / "b")
    line = elsewhere.fails()
    assert "1 of 2 scenes, the first missing is b" in line and "build-memory" in line, line
    remove_remote(elsewhere.folder("build-memory") / "manifest.json")
    assert_nothing_was_lost(elsewhere)
