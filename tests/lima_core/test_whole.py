"""What appears is whole; what failed leaves nothing, and what a killed process left is cleared away."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lima_core import whole
from lima_core.storage import Location, files_below, read_bytes
from lima_core.whole import appears_whole, make_folder, remove, sweep, write_json


def test_a_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "scene"
    with appears_whole(final) as partial:
        partial.mkdir()
        (partial / "a").write_text("1")
        assert not final.exists()
    assert (final / "a").read_text() == "1" and list(final.parent.iterdir()) == [final]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), appears_whole(tmp_path / "file") as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_process_are_replaced(tmp_path: Path) -> None:
    leftover = tmp_path / "scene.writing"
    leftover.mkdir()
    (leftover / "stale").write_text("old")
    with appears_whole(tmp_path / "scene") as partial:
        assert not partial.exists()
        partial.mkdir()
    assert list((tmp_path / "scene").iterdir()) == []


def test_json_is_sorted_and_refuses_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1.5], "b": 1}
    assert (tmp_path / "a.json").read_text().index('"a"') < (tmp_path / "a.json").read_text().index('"b"')
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", {"x": float("nan")})
    assert not (tmp_path / "b.json").exists()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that are put on the storage, and what is removed from it, as it happens."""
    from fsspec.implementations.memory import MemoryFileSystem as Files

    found: list[str] = []
    put, rm_file = Files.put_file, Files.rm_file

    def put_file(self: object, local: str, path: str, **kwargs: object) -> None:
        found.append(f"put {Path(path).name}")
        put(self, local, path, **kwargs)

    def removed(self: object, path: str) -> None:
        found.append(f"rm {Path(path).name}")
        rm_file(self, path)

    monkeypatch.setattr(Files, "put_file", put_file)
    monkeypatch.setattr(Files, "rm_file", removed)
    return found


def write_scene(scene: Location, group: str) -> None:
    with appears_whole(scene) as partial:
        (partial / "codes").mkdir(parents=True)
        for name, text in (("zarr.json", group), ("codes/zarr.json", "{}"), ("zz", "{}")):
            (partial / name).write_text(text)


def test_on_a_storage_what_says_whole_comes_last_and_goes_first(memory_work: Location, asked: list[str]) -> None:
    write_scene(memory_work / "scene", "{}")
    assert len(asked) == 3 and asked[-1] == "put zarr.json"
    asked.clear()
    write_scene(memory_work / "scene", '{"other": 1}')
    assert len(asked) == 4 and asked[0] == "rm zarr.json" and asked[-1] == "put zarr.json"
    asked.clear()
    remove(memory_work / "scene")
    assert asked == ["rm zarr.json", "rm zarr.json", "rm zz"]
    assert files_below(memory_work) == {}


def test_on_a_storage_a_second_writer_of_the_same_leaves_the_first_alone(
    memory_work: Location, asked: list[str]
) -> None:
    for _ in range(2):
        write_scene(memory_work / "scene", "{}")
    assert len(asked) == 3 and set(files_below(memory_work / "scene")) == {"zarr.json", "codes/zarr.json", "zz"}


def test_a_failure_uploads_nothing(memory_work: Location) -> None:
    with pytest.raises(KeyboardInterrupt), appears_whole(memory_work / "scene") as partial:
        partial.mkdir()
        (partial / "zarr.json").write_text("{}")
        raise KeyboardInterrupt
    assert files_below(memory_work) == {}


def test_json_appears_on_a_storage(memory_work: Location) -> None:
    write_json(memory_work / "a" / "b.json", {"x": 1})
    assert json.loads(read_bytes(memory_work / "a" / "b.json")) == {"x": 1}


def test_new_folders_are_on_disk_before_what_is_put_into_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr(whole, "fsync_path", flushed.append)
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir() and set(flushed) == {tmp_path, tmp_path / "a"} and len(flushed) == 2


def test_what_dead_writers_left_is_swept_up(tmp_path: Path) -> None:
    kept, left = ("a/data", "writing", "a/x.writing.txt"), ("a/x.writing/deep", "b.2.writing", "b.writing.lock")
    for name in (*kept, *left):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert set(files_below(tmp_path)) == set(kept)


WRITER = """
import sys, time
from lima_core.whole import appears_whole
from upath import UPath
with appears_whole(UPath("memory://bucket/other")) as partial:
    partial.mkdir()
    print(partial, flush=True)
    time.sleep(60)
"""


def test_what_a_killed_writer_of_a_storage_left_on_this_machine_goes_with_the_next(
    memory_work: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "lima-of-someone").mkdir()
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    other = subprocess.Popen([sys.executable, "-c", WRITER], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        left = Path(other.stdout.readline().strip())
        write_scene(memory_work / "a", "{}")
        assert left.is_dir()
    finally:
        other.kill()
        other.communicate()
    assert left.is_dir()
    write_scene(memory_work / "b", "{}")
    assert [path.name for path in tmp_path.iterdir()] == ["lima-of-someone"]
