import errno
import os
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from lima_core.errors import BusyError, DataError
from pipeline import lock


def test_a_lock_file_that_was_removed_is_noticed(tmp_path: Path) -> None:
    artifact = tmp_path / "bank-01234567"
    with lock.held(artifact, False, print) as check:
        check()
        lock.lock_path(artifact).unlink()
        with pytest.raises(BusyError, match=r"\.lock: was removed while its artifact was built"):
            check()
        lock.lock_path(artifact).touch()
        with pytest.raises(BusyError, match="another process may be building it"):
            check()


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "no locks"), NotImplementedError("no flock")])
def test_a_file_system_without_locks_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with (
        pytest.raises(DataError, match="this file system has no locks; use a local disk, or NFS"),
        lock.held(tmp_path / "bank-01234567", False, print),
    ):
        pass


def test_one_who_only_looks_is_in_nobodys_way(tmp_path: Path) -> None:
    artifact = tmp_path / "bank-01234567"
    with lock.held(artifact, False, print):
        pass
    looking = FileLock(lock.lock_path(artifact), thread_local=False)
    looking.acquire()
    timer = threading.Timer(0.03, looking.release)
    timer.start()
    with lock.held(artifact, False, print):
        timer.join()


def test_a_kernel_without_locks_is_one_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Filelock would take a file for a lock, which outlives its holder."""

    def refused(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refused)
    with pytest.raises(DataError, match="this file system has no locks; use a local disk"):  # noqa: SIM117
        with lock.held(tmp_path / "bank-01234567", False, print):
            pytest.fail("held")


def test_whoever_looks_needs_no_right_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact, real = tmp_path / "bank-01234567", os.open

    def read_only(path: object, flags: int, *rest: object, **named: object) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, flags, *rest, **named)

    with lock.held(artifact, False, print):
        monkeypatch.setattr(os, "open", read_only)
        assert lock.is_held(artifact)
        monkeypatch.undo()
    lock.lock_path(artifact).touch()
    monkeypatch.setattr(os, "open", read_only)
    assert not lock.is_held(artifact)
