"""Disks that are full, fail, refuse, or hold a file where a folder should be, while a stage writes."""

import errno
import json
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lima_core import storage, whole
from lima_core.stores.row_array import RowArrayWriter
from pipeline import manifest
from tests.faults.flow import Flow

STAGES = ("index", "extract-features", "build-memory", "distill", "finetune", "evaluate")
SLOW = pytest.mark.slow


@contextmanager
def limited(what: int, soft: int) -> Iterator[None]:
    """With a resource limit of this process."""
    before = resource.getrlimit(what)
    resource.setrlimit(what, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 kB; skipped where none can be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    words = ("mount", "-t", "tmpfs", "-o", "size=256k", "lima-test", str(place))
    if os.geteuid() or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(("umount", str(place)), check=True)


def fill(place: Path, left: int) -> None:
    """Leaves so many bytes on a disk."""
    (place / "ballast").write_bytes(bytes(max(0, os.statvfs(place).f_bavail * os.statvfs(place).f_frsize - left)))


@pytest.mark.parametrize(
    "left", [0, 8192, 65536, *(pytest.param(left, marks=SLOW) for left in (4096, 16384, 40960, 102400))]
)
def test_a_full_disk_is_told_and_with_room_the_run_ends_well(
    fresh: Flow, small_disk: Path, left: int, tmp_path: Path
) -> None:
    fill(small_disk, left)
    fresh.work = small_disk / "work"
    line = fresh.fails()
    assert "full" in line and str(small_disk) in line and "make room" in line, line
    (small_disk / "ballast").unlink()
    subprocess.run(("mount", "-o", "remount,size=8m", str(small_disk)), check=True)
    fresh.assert_nothing_was_lost()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's own thread
@pytest.mark.parametrize("kind", STAGES)
@pytest.mark.parametrize("limit", [700, pytest.param(0, marks=SLOW), pytest.param(5000, marks=SLOW)])
def test_a_file_that_may_not_grow_is_told(finished: Flow, kind: str, limit: int) -> None:
    finished.forget(kind)
    largest = max(path.stat().st_size for path in finished.work.rglob("*") if path.is_file())
    assert limit < largest
    with limited(resource.RLIMIT_FSIZE, limit):
        try:
            line = finished.fails(kind)
        except pytest.fail.Exception:
            pytest.skip(f"{kind} writes no file above {limit} bytes")
    assert "too large" in line or "full" in line, line
    assert str(finished.work) in line, line
    finished.assert_nothing_was_lost(kind)


@pytest.mark.parametrize(
    ("number", "code"), [(0, errno.ENOSPC), (1, errno.EIO), (3, errno.EDQUOT), (8, errno.ENOSPC), (20, errno.EIO)]
)
def test_the_nth_flush_fails(fresh: Flow, monkeypatch: pytest.MonkeyPatch, number: int, code: int) -> None:
    """Many disks tell of a full or broken device only when they are asked to flush."""
    calls = iter(range(10**6))
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if next(calls) == number:
            raise OSError(code, os.strerror(code), str(fresh.work))
        real(descriptor)

    monkeypatch.setattr(whole.os, "fsync", fsync)
    line = fresh.fails()
    assert ("fails" if code == errno.EIO else "full") in line and str(fresh.work) in line, line
    monkeypatch.undo()
    fresh.assert_nothing_was_lost()


@pytest.mark.parametrize("number", [0, 4, 9])
def test_the_nth_block_of_rows_finds_the_disk_full(fresh: Flow, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    calls, real = iter(range(10**6)), RowArrayWriter.append

    def append(writer: RowArrayWriter, rows: object) -> None:
        if next(calls) == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(writer.folder))
        real(writer, rows)

    monkeypatch.setattr(RowArrayWriter, "append", append)
    assert "the disk is full" in fresh.fails()
    monkeypatch.undo()
    fresh.assert_nothing_was_lost()


@pytest.mark.parametrize("kind", ["build-memory", "distill"])
def test_a_manifest_that_cannot_be_written_is_no_artifact(
    finished: Flow, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    finished.forget(kind)

    def full(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(manifest, "write", full)
    assert "the disk is full" in finished.fails(kind)
    assert not finished.folder(kind).exists()
    monkeypatch.undo()
    finished.assert_nothing_was_lost(kind)


@pytest.mark.parametrize("kind", ["extract-features", "distill"])
def test_a_disk_that_gives_no_bytes_back_is_told(finished: Flow, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    upstream = {"extract-features": "index", "distill": "build-memory"}[kind]
    finished.forget(kind)
    real = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if upstream in str(path) and path.name != "manifest.json":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    monkeypatch.setattr(storage, "read_bytes", read_bytes)
    try:
        line = finished.fails(kind)
    except pytest.fail.Exception:
        pytest.skip("this stage reads that artifact by other means")
    assert "Input/output error" in line, line
    monkeypatch.undo()
    finished.assert_nothing_was_lost(kind)


def test_too_many_open_files_are_told(fresh: Flow) -> None:
    held = len(os.listdir("/proc/self/fd"))
    with limited(resource.RLIMIT_NOFILE, held + 1):
        line = fresh.fails()
    assert "too many open files" in line.lower() and str(fresh.work.parent) in line, line
    fresh.assert_nothing_was_lost()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's writer dies of it
@pytest.mark.parametrize("kind", ["extract-features", "build-memory", "distill"])
def test_too_many_open_files_while_a_stage_works(finished: Flow, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The limit comes when the stage starts, not before."""
    import tracemalloc  # noqa: F401 - pytest imports it when a thread dies, and then no file can be opened

    finished.forget(kind)
    held = len(os.listdir("/proc/self/fd"))
    stage, wanted = finished.node(kind).stage, "too many open files"
    real = stage.run

    def run(*words: object) -> object:
        with limited(resource.RLIMIT_NOFILE, held + 1):
            return real(*words)

    monkeypatch.setattr(stage, "run", run)
    line = finished.fails(kind)
    assert wanted in line.lower(), line
    monkeypatch.undo()
    finished.assert_nothing_was_lost(kind)


@pytest.mark.parametrize("name", ["", ".locks", "index"])
def test_a_file_where_a_folder_should_be(fresh: Flow, name: str) -> None:
    place = fresh.folder("index") if name == "index" else fresh.work / name
    place.parent.mkdir(exist_ok=True)
    place.write_text("in the way")
    line = fresh.fails()
    assert str(place) in line, line
    place.unlink()
    fresh.assert_nothing_was_lost()


def test_a_work_folder_that_may_not_be_written(fresh: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Injected: tests may run as root, who may write everywhere."""
    real = Path.mkdir

    def mkdir(path: Path, *args: object, **kwargs: object) -> None:
        if fresh.work in (path, *path.parents):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    line = fresh.fails()
    assert "cannot be written (Permission denied)" in line and "--work" in line, line
    monkeypatch.undo()
    fresh.assert_nothing_was_lost()


def test_what_a_killed_writer_left_is_cleared_away(finished: Flow) -> None:
    name = finished.folder("build-memory").name
    finished.forget("build-memory", "distill")
    left = finished.work / f"{name}.partial" / "memory.zarr" / "a.writing" / "points"
    left.mkdir(parents=True)
    (left / "c").write_bytes(b"half")
    finished.assert_nothing_was_lost("distill")


def test_a_half_built_store_of_another_version_is_refused(finished: Flow) -> None:
    name = finished.folder("build-memory").name
    finished.forget("build-memory", "distill")
    left = finished.work / f"{name}.partial" / "memory.zarr"
    left.mkdir(parents=True)
    text = {"zarr_format": 3, "node_type": "group", "attributes": {"schema": "lima-other/9", "scenes": []}}
    (left / "zarr.json").write_text(json.dumps(text))
    line = finished.fails("build-memory")
    assert str(left) in line and "lima-other/9" in line and "remove the folder" in line
    shutil.rmtree(left)
    finished.assert_nothing_was_lost("distill")
