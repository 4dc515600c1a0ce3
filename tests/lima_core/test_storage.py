"""One and the same answers from a disk, a storage in memory and a real S3 server; and what happens when it fails."""

import multiprocessing
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from lima_core import patience, storage
from lima_core.errors import ConfigError, UnreachableError
from lima_core.storage import (
    Location,
    children,
    create,
    download,
    file_bytes,
    files_below,
    is_file,
    location,
    read_bytes,
    read_range,
    remove_remote,
    upload,
    write_bytes,
)
from tests.object_storage import UnsteadyFileSystem


@pytest.fixture(params=["disk", "memory", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """An empty folder, here and elsewhere."""
    return tmp_path / "work" if request.param == "disk" else request.getfixturevalue(f"{request.param}_work")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between tries, which are not waited."""
    waited: list[float] = []
    monkeypatch.setattr(patience, "sleep", waited.append)
    return waited


@pytest.fixture
def unsteady(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> Location:
    """A file of ten bytes on a storage that is to have trouble."""
    place = location("unsteady://there/file")
    UnsteadyFileSystem.store.clear()
    write_bytes(place, b"0123456789")
    monkeypatch.setattr(UnsteadyFileSystem, "calls", {})
    return place


def put(place: Location, data: bytes, tmp_path: Path) -> None:
    if storage.is_remote(place):
        (tmp_path / "source").write_bytes(data)
        upload(tmp_path / "source", place)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


def test_files_and_ranges_are_read_alike_everywhere(folder: Location, tmp_path: Path) -> None:
    put(folder / "a" / "b.bin", b"0123456789", tmp_path)
    put(folder / "empty", b"", tmp_path)
    file = folder / "a" / "b.bin"
    assert read_bytes(file) == b"0123456789" and read_bytes(folder / "empty") == b""
    assert [read_range(file, *it) for it in ((2, 3), (8, 30), (10, 5), (0, 10))] == [b"234", b"89", b"", b"0123456789"]
    assert [file_bytes(place) for place in (file, folder / "empty", folder / "a", folder / "no")] == [10, 0, None, None]
    for missing in (folder / "no", folder / "a" / "no"):
        with pytest.raises(FileNotFoundError):
            read_bytes(missing)
        with pytest.raises(FileNotFoundError):
            read_range(missing, 0, 1)


def test_folders_are_listed_alike_everywhere(folder: Location, tmp_path: Path) -> None:
    assert children(folder) == [] and files_below(folder) == {}
    for name in ("b", "a/x", "a/y/z", "ab"):
        put(folder.joinpath(*name.split("/")), name.encode(), tmp_path)
    assert [place.name for place in children(folder)] == ["a", "ab", "b"]
    assert files_below(folder) == {"a/x": 3, "a/y/z": 5, "ab": 2, "b": 1}
    assert files_below(folder / "a") == {"x": 3, "y/z": 5}
    assert children(folder / "a" / "x") in ([], [folder / "a" / "x"])


@pytest.mark.parametrize("kind", ["memory_work", "s3_work"])
def test_what_others_write_and_remove_is_seen_at_once(kind: str, request: pytest.FixtureRequest) -> None:
    work = request.getfixturevalue(kind)
    write_bytes(work / "one", b"1")
    assert [place.name for place in children(work)] == ["one"]
    other = type(work.fs)(**{**work.storage_options, "skip_instance_cache": True})
    other.pipe_file((work / "two").path, b"22")
    assert [place.name for place in children(work)] == ["one", "two"] and file_bytes(work / "two") == 2
    other.rm_file((work / "one").path)
    assert [place.name for place in children(work)] == ["two"] and not is_file(work / "one")


@pytest.mark.parametrize("kind", ["memory_work", "s3_work"])
def test_a_file_is_created_once_and_removed_with_its_folder(kind: str, request: pytest.FixtureRequest) -> None:
    work = request.getfixturevalue(kind)
    assert create(work / "lock", b"mine")
    assert not create(work / "lock", b"theirs") and read_bytes(work / "lock") == b"mine"
    assert create(work / "lock", b"mine"), "an answer that was lost must not look like another's"
    remove_remote(work)
    remove_remote(work)
    assert children(work) == []


@pytest.mark.parametrize("kind", ["memory_work", "s3_work"])
@pytest.mark.parametrize("name", ["drive[1]", "drive*", "drive?", "[1", "**"])
def test_only_what_is_named_is_removed(kind: str, name: str, request: pytest.FixtureRequest) -> None:
    work = request.getfixturevalue(kind)
    for folder in (name, "drive1", "drive2"):
        write_bytes(work / folder / "file", b"1")
        write_bytes(work / folder / "of[1]*" / "file", b"1")
    remove_remote(work / "drive2" / "of[1]*" / "file")
    remove_remote(work / name)
    assert [*files_below(work)] == ["drive1/file", "drive1/of[1]*/file", "drive2/file"]
    remove_remote(work / name)
    assert name not in [place.name for place in children(work)]


def test_what_a_bulk_removal_leaves_is_removed_one_by_one_or_the_reason_told(
    s3_work: Location, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    async def refuses(*_: Any) -> list:
        return []

    def denied(_: str) -> None:
        raise coded("AccessDenied")

    monkeypatch.setattr(s3fs.S3FileSystem, "_bulk_delete", refuses)
    for name in ("a", "b"):
        write_bytes(s3_work / "folder" / name, b"1")
    with monkeypatch.context() as patch:
        patch.setattr(s3_work.fs, "rm_file", denied)
        with pytest.raises(UnreachableError, match="access is denied"):
            remove_remote(s3_work / "folder")
    remove_remote(s3_work / "folder")
    assert files_below(s3_work) == {} and waits == []


def test_a_forked_process_gets_a_connection_of_its_own(s3_work: Location) -> None:
    write_bytes(s3_work / "file", b"seen")
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    child = context.Process(target=lambda: writer.send(read_bytes(s3_work / "file")))
    child.start()
    assert reader.poll(20) and reader.recv() == b"seen"
    child.join()


def failing(times: int, error: Exception) -> Any:
    return staticmethod(lambda name, number: error if number <= times else None)


@pytest.mark.parametrize(
    "error", [ConnectionResetError("reset"), TimeoutError("late"), OSError(5, "bad"), ValueError()]
)
def test_what_fails_at_first_is_tried_again_later_and_later(
    unsteady: Location, waits: list[float], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(UnsteadyFileSystem, "trouble", failing(4, error))
    assert read_range(unsteady, 2, 3) == b"234"
    assert UnsteadyFileSystem.calls == {"read": 5}
    assert len(waits) == 4
    assert all(0.5 * most <= waited <= most for waited, most in zip(waits, patience.WAITS_S, strict=False))


def test_what_fails_always_is_one_line(unsteady: Location, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UnsteadyFileSystem, "trouble", failing(99, ConnectionResetError("reset by peer\nlong story")))
    pattern = r"unsteady://there/file: cannot be reached, tried 8 times in \d+ s \(reset by peer\); .*run again$"
    with pytest.raises(UnreachableError, match=pattern):
        read_bytes(unsteady)
    assert UnsteadyFileSystem.calls["read"] == len(patience.WAITS_S) + 1 == len(waits) + 1
    with pytest.raises(UnreachableError):
        children(unsteady.parent)
    with pytest.raises(UnreachableError):
        create(unsteady.parent / "new", b"")


def test_an_answer_that_is_cut_short_is_a_failure(
    unsteady: Location, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UnsteadyFileSystem, "cut_bytes", 2)
    monkeypatch.setattr(UnsteadyFileSystem, "cut_times", 3)
    assert read_range(unsteady, 2, 6) == b"234567" and UnsteadyFileSystem.calls["read"] == 4
    UnsteadyFileSystem.calls.clear()
    assert read_bytes(unsteady) == b"0123456789" and UnsteadyFileSystem.calls["read"] == 4
    monkeypatch.setattr(UnsteadyFileSystem, "cut_times", 999)
    with pytest.raises(UnreachableError, match=r"tried 8 times .*\(8 bytes came instead of 10\)"):
        read_bytes(unsteady)


@pytest.mark.parametrize("code", patience.HERE)
def test_a_full_disk_of_this_machine_is_not_the_storages_trouble(
    unsteady: Location, waits: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code), str(tmp_path / "local"))

    monkeypatch.setattr(UnsteadyFileSystem, "get_file", full)
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        download(unsteady, tmp_path / "local")
    assert (caught.value.errno, caught.value.filename) == (code, str(tmp_path / "local")) and waits == []


def test_mistakes_of_ours_are_not_tried_again(
    unsteady: Location, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (TypeError("ours"), KeyError("ours"), MemoryError()):
        monkeypatch.setattr(UnsteadyFileSystem, "trouble", failing(99, error))
        with pytest.raises(type(error)):
            read_bytes(unsteady)
    assert waits == []


def coded(code: str) -> Exception:
    """What s3fs raises where the server answers with this code."""
    from botocore.exceptions import ClientError
    from s3fs.errors import translate_boto_error

    return translate_boto_error(
        ClientError({"Error": {"Code": code, "Message": f"the server says {code}"}}, "GetObject")
    )


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("NoSuchBucket", "there is no such bucket (the server says NoSuchBucket); check the URL, or make the bucket"),
        ("InvalidAccessKeyId", "the credentials are not accepted (the server says InvalidAccessKeyId); give"),
        ("SignatureDoesNotMatch", "the credentials are not accepted"),
        ("ExpiredToken", "the credentials have expired"),
        ("AccessDenied", "access is denied (the server says AccessDenied); give credentials that may read, write"),
        ("403", "access is denied"),
        ("RequestTimeTooSkewed", "this machine's clock is wrong"),
    ],
)
def test_what_only_the_user_can_mend_is_told_at_once(
    unsteady: Location, waits: list[float], monkeypatch: pytest.MonkeyPatch, code: str, line: str
) -> None:
    monkeypatch.setattr(UnsteadyFileSystem, "trouble", failing(99, coded(code)))
    with pytest.raises(UnreachableError) as caught:
        read_bytes(unsteady)
    assert str(caught.value).startswith(f"{unsteady}: {line}") and waits == []


@pytest.mark.parametrize("code", ["InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "Odd"])
def test_what_a_server_says_about_its_own_trouble_is_tried_again(
    unsteady: Location, waits: list[float], monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setattr(UnsteadyFileSystem, "trouble", failing(2, coded(code)))
    assert read_bytes(unsteady) == b"0123456789" and len(waits) == 2


def test_a_bucket_that_is_not_there_is_no_empty_folder(s3_work: Location, waits: list[float]) -> None:
    work = location("s3://no-such-bucket-here/work")
    for ask in (children, file_bytes, read_bytes, files_below, remove_remote, lambda place: create(place, b"")):
        with pytest.raises(UnreachableError, match=r"^s3://no-such-bucket-here/work.*: there is no such bucket"):
            ask(work / "a")
    assert waits == []


def test_no_credentials_are_told_at_once(
    s3_work: Location, waits: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(UnreachableError, match=r"there are no credentials .*AWS_ACCESS_KEY_ID"):
        read_bytes(location(str(s3_work)) / "a")
    assert waits == []


def test_a_server_that_never_answers_is_given_up(s3_work: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "TIMEOUTS_S", {"connect_timeout": 0.2, "read_timeout": 0.2})
    monkeypatch.setattr(patience, "WAITS_S", (0.01, 0.01))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(UnreachableError, match=r"tried 3 times in \d s \(.*[Tt]imeout"):
            read_bytes(location(f"{s3_work}/a"))
        assert time.monotonic() - started < 10


@pytest.mark.parametrize(("url", "line"), [("s4://x/y", "Unsupported filesystem"), ("gs://x/y", "install gcsfs")])
def test_what_cannot_be_opened_is_one_line(url: str, line: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{url}: cannot be opened \(.*{line}.*; pip install the fsspec package"):
        location(url)


def test_a_path_stays_a_path() -> None:
    assert location("work") == Path("work") and location("file:///a/b") == Path("/a/b")
    assert location(Path("a")) == Path("a") and isinstance(location("a"), Path)
    assert os.fspath(location("/a:b//c")) == "/a:b/c"


def test_a_file_that_is_written_anew_between_its_size_and_its_bytes_is_read_whole(
    memory_work: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, real = memory_work / "lease", type(memory_work.fs).info
    write_bytes(place, b"beat 9")

    def grown(files: Any, path: str, **options: Any) -> dict[str, Any]:
        found = real(files, path, **options)
        files.pipe_file(path, b"beat 10")
        return found

    monkeypatch.setattr(type(memory_work.fs), "info", grown)
    assert read_bytes(place) == b"beat 10"


def test_a_file_that_is_removed_right_after_it_was_in_the_way_was_not_created(
    memory_work: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise FileExistsError

    monkeypatch.setattr(type(memory_work.fs), "pipe_file", refuse)
    assert not create(memory_work / "lease", b"ours")
