"""Recordings that break: before the index is made, and after it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lima_core.types import Resources
from pipeline import runner
from tests.faults.flow import Flow, in_one_line, moved_away


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def not_finite(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4:8] = b"\x00\x00\xc0\x7f"  # x of the first point: NaN
    path.write_bytes(bytes(data))


def another_image(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40] + bytes(len(path.read_bytes()) - 40))


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


FRAMES = "sequences/a/frames.jsonl"
SCAN = "sequences/b/lidar/000003.bin"
IMAGE = "sequences/a/cameras/front/000002.jpg"
LABELS = "sequences/b/labels/000005.bin"
BEFORE = {
    ("dataset.json", cut_off): "dataset.json",
    ("dataset.json", Path.unlink): "dataset.json",
    (FRAMES, cut_off): "frames.jsonl:6",
    (FRAMES, emptied): "frames.jsonl",
    (FRAMES, Path.unlink): "frames.jsonl",
    ("sequences/b/calibration.json", cut_off): "calibration.json",
    (SCAN, cut_off): SCAN,
    (SCAN, emptied): SCAN,
    (SCAN, Path.unlink): SCAN,
    (SCAN, a_folder): SCAN,
    (LABELS, Path.unlink): LABELS,
    (LABELS, emptied): LABELS,
}
"""What breaks, how, and what the line must name."""
AFTER = {
    (SCAN, cut_off): "build-memory",
    (SCAN, not_finite): "build-memory",
    (SCAN, Path.unlink): "build-memory",
    (IMAGE, cut_off): "extract-features",
    (IMAGE, another_image): "extract-features",
    (IMAGE, Path.unlink): "extract-features",
    (LABELS, cut_off): "evaluate",
    (LABELS, Path.unlink): "evaluate",
}


def named(case: tuple[str, Callable[[Path], object]]) -> str:
    return f"{case[0]} {case[1].__name__}"


@pytest.mark.parametrize("case", BEFORE, ids=named)
def test_what_is_broken_is_named_before_hours_are_spent(fresh: Flow, case: tuple) -> None:
    file, damage = fresh.raw / case[0], case[1]
    whole = file.read_bytes()
    damage(file)
    line = fresh.fails()
    assert BEFORE[case] in line, line
    if file.is_dir():
        file.rmdir()
    file.write_bytes(whole)
    fresh.assert_nothing_was_lost()


@pytest.mark.parametrize("case", AFTER, ids=named)
def test_what_breaks_after_the_index_was_made_is_named(finished: Flow, case: tuple) -> None:
    """The nodes are those of before: the run has begun when the file breaks."""
    kind, file, damage = AFTER[case], finished.raw / case[0], case[1]
    finished.forget(kind)
    node, whole = finished.node(kind), file.read_bytes()
    damage(file)
    with pytest.raises(ValueError) as caught:
        runner.run([node], finished.work, Resources(), say=lambda line: None)
    assert case[0] in in_one_line(caught.value)
    assert not node.path(finished.work).exists()
    file.write_bytes(whole)
    finished.assert_nothing_was_lost(kind)


def test_recordings_that_are_not_mounted(fresh: Flow) -> None:
    with moved_away(fresh.raw):
        assert str(fresh.raw) in fresh.fails()
    fresh.assert_nothing_was_lost()


def test_scenes_that_were_finished_before_a_scan_broke_are_kept(finished: Flow) -> None:
    finished.forget("build-memory")
    node, file = finished.node("build-memory"), finished.raw / SCAN
    whole = file.read_bytes()
    cut_off(file)
    with pytest.raises(ValueError, match="000003"):
        runner.run([node], finished.work, Resources(), say=lambda line: None)
    kept = node.partial_path(finished.work) / "memory.zarr" / "a" / "zarr.json"
    before = kept.stat().st_mtime_ns
    file.write_bytes(whole)
    finished.assert_nothing_was_lost("build-memory")
    done = finished.folder("build-memory") / "memory.zarr" / "a" / "zarr.json"
    assert done.stat().st_mtime_ns == before, "a finished scene was built again"


def test_an_edited_recording_is_another_data_set(finished: Flow) -> None:
    """A changed pose builds new artifacts beside the old ones, and taking it back finds these again."""
    path = finished.raw / FRAMES
    whole = path.read_text()
    lines = whole.splitlines()
    record = json.loads(lines[2])
    record["timestamp_us"] += 1
    path.write_text("\n".join([*lines[:2], json.dumps(record), *lines[3:]]) + "\n")
    assert not finished.folder("index").exists()
    finished.build("index")
    shutil.rmtree(finished.folder("index"))
    path.write_text(whole)
    finished.assert_nothing_was_lost()
