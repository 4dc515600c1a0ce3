"""Build once, resume after any death, never show half an artifact, and say in one line what stands in the way."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from lima_core.errors import BusyError, DataError, StoreError
from lima_core.types import Resources
from pipeline import lock, manifest
from pipeline.integrity import contents
from pipeline.node import Node, Source
from pipeline.planning import plan
from pipeline.runner import run
from tests.pipeline.conftest import load_toy

ROOT = Path(__file__).parents[2]
CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from conftest import load_toy
from lima_core.types import Resources
from pipeline.node import Node
from pipeline.runner import run
make = load_toy("make_numbers")
run([Node("numbers", make, make.Config(scenes=6), {{}})], Path({work!r}), Resources())
"""


def start_child(work: Path) -> subprocess.Popen:
    """A process that builds six scenes slowly, once it is in the second of them."""
    (work / "slow").touch()
    code = CHILD.format(tests=str(Path(__file__).parent), work=str(work))
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    while not (work / "at-1").exists():
        assert child.poll() is None, child.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return child


def data(path: Path) -> dict[str, bytes]:
    files = [file for file in sorted(path.glob("*.json")) if file.name not in (manifest.FILE, contents.FILE)]
    return {file.name: file.read_bytes() for file in files}


def test_builds_once_and_finds_it_the_second_time(tmp_path: Path, toys: SimpleNamespace) -> None:
    node, lines = toys.total(toys.numbers()), []
    (path,) = run([node], tmp_path / "work", Resources(), say=lines.append)
    assert json.loads((path / "sum.json").read_text()) == 6.0
    assert [line.split()[:3] for line in lines] == [
        ["[1/2]", "started", toys.numbers().path(tmp_path).name],
        ["[1/2]", "finished", toys.numbers().path(tmp_path).name],
        ["[2/2]", "started", path.name],
        ["[2/2]", "finished", path.name],
    ]
    before, lines[:] = (path / manifest.FILE).stat().st_mtime_ns, []
    run([node], tmp_path / "work", Resources(), say=lines.append)
    assert lines == [f"[1/2] cached    {toys.numbers().path(tmp_path).name}", f"[2/2] cached    {path.name}"]
    assert (path / manifest.FILE).stat().st_mtime_ns == before


def test_the_manifest_tells_recipe_summary_and_cost(tmp_path: Path, toys: SimpleNamespace) -> None:
    node = toys.total(toys.numbers())
    (path,) = run([node], tmp_path, Resources())
    record = manifest.read(path)
    assert record.recipe == node.recipe
    assert record.fingerprint == node.fingerprint
    assert record.summary == {"sum": 6.0, "missing": None}
    assert record.inputs == {"numbers": toys.numbers().path(tmp_path).name}
    assert record.num_bytes == (path / "sum.json").stat().st_size
    assert record.inputs_content == {path.name: manifest.read(path).content for path in tmp_path.glob("numbers-*")}
    used = {"device": "cpu", "engine": "native", "workers": 0, "world_size": 1, "checkpoint_activations": False}
    used |= {"scheduler": None, "on_cpus": False}
    assert record.provenance["resources"] == used
    assert not record.resumed


def test_a_killed_run_resumes_and_ends_with_the_same_bytes(tmp_path: Path, toys: SimpleNamespace) -> None:
    killed, calm = tmp_path / "killed", tmp_path / "calm"
    killed.mkdir()
    child = start_child(killed)
    child.kill()
    child.communicate()
    (killed / "slow").unlink()
    node = toys.numbers(scenes=6)
    assert not node.path(killed).exists()
    assert [step.state for step in plan([node], killed)] == ["resume"]
    (path,) = run([node], killed, Resources())
    assert int((path / "logs" / "made.txt").read_text()) < 6
    assert manifest.read(path).resumed
    (undisturbed,) = run([node], calm, Resources())
    assert data(path) == data(undisturbed)
    assert not node.partial_path(killed).exists()


def test_ctrl_c_says_what_is_kept(tmp_path: Path) -> None:
    child = start_child(tmp_path)
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=30)
    assert "what is finished is kept; the same command goes on from there" in out
    assert child.returncode != 0


def test_a_second_run_says_who_is_building(tmp_path: Path, toys: SimpleNamespace) -> None:
    node = toys.numbers(scenes=6)
    child = start_child(tmp_path)
    try:
        pattern = rf"^{node.path(tmp_path).name}: is being built by pid {child.pid} on .+ since .+; wait for it, or run"
        with pytest.raises(BusyError, match=pattern):
            run([node], tmp_path, Resources())
        assert lock.is_held(node.path(tmp_path))
        lines = []
        run([node], tmp_path, Resources(), wait=True, say=lines.append)
    finally:
        child.kill()
        child.communicate()
    assert f"waiting for pid {child.pid}" in lines[0]
    assert lines[1].endswith("(just built by another process)")
    assert not lock.is_held(node.path(tmp_path))


def test_a_failed_stage_leaves_no_artifact_and_no_lock(tmp_path: Path, toys: SimpleNamespace) -> None:
    node = toys.numbers(fail=True)
    with pytest.raises(DataError, match="told to fail"):
        run([node], tmp_path, Resources())
    assert not node.path(tmp_path).exists()
    assert not lock.is_held(node.path(tmp_path))


def test_a_file_in_place_of_the_work_folder_is_one_line(tmp_path: Path, toys: SimpleNamespace) -> None:
    work = tmp_path / "work"
    work.write_text("in the way")
    with pytest.raises(DataError, match=rf"^{work}: cannot be written \(File exists\); choose a folder"):
        run([toys.numbers()], work, Resources())
    with pytest.raises(DataError, match=r"cannot be written \(Not a directory\)"):
        run([toys.numbers()], work / "below", Resources())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_work_folder_is_one_line(tmp_path: Path, toys: SimpleNamespace) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match=r"cannot be written \(Permission denied\)"):
        run([toys.numbers()], tmp_path, Resources())


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (errno.ENOSPC, "the disk is full; "),
        (errno.EIO, "the disk fails (Input/output error); check the disk, then run again: what is finished is kept"),
        (errno.EROFS, "cannot be written (Read-only file system); choose a folder that can be written with --work"),
    ],
)
def test_disk_trouble_is_one_line(
    tmp_path: Path, toys: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, code: int, line: str
) -> None:
    def failing(path: Path, value: object) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(toys.make, "write_json", failing)
    node = toys.numbers()
    with pytest.raises(DataError) as caught:
        run([node], tmp_path, Resources())
    assert str(caught.value).startswith(f"{node.partial_path(tmp_path)}/scene-0.json: {line}")
    assert "\n" not in str(caught.value)


def test_a_folder_without_manifest_is_not_taken_for_an_artifact(tmp_path: Path, toys: SimpleNamespace) -> None:
    node = toys.numbers()
    node.path(tmp_path).mkdir()
    with pytest.raises(StoreError, match=r"no manifest\.json, so this is not an artifact; remove"):
        run([node], tmp_path, Resources())


def test_moved_raw_data_is_found_in_the_cache(tmp_path: Path, toys: SimpleNamespace) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "offset.txt").write_text("1")
    run([toys.numbers(raw=Source(raw, "d"))], tmp_path / "work", Resources())
    moved = toys.numbers(raw=Source(raw.rename(tmp_path / "moved"), "d"))
    assert [step.state for step in plan([moved], tmp_path / "work")] == ["cached"]


def test_a_run_killed_before_the_last_rename_only_renames(tmp_path: Path, toys: SimpleNamespace) -> None:
    node, lines = toys.numbers(), []
    (path,) = run([node], tmp_path, Resources())
    written = (path / manifest.FILE).stat().st_mtime_ns
    path.rename(node.partial_path(tmp_path))
    run([node], tmp_path, Resources(), say=lines.append)
    assert lines == [f"[1/1] finished  {path.name}, of which only the last step was missing"]
    assert (path / manifest.FILE).stat().st_mtime_ns == written


def run_until(number: int, node: Node, work: Path) -> None:
    """Builds in a process that is killed right before it renames or removes something for this time."""
    left = iter(range(number))

    def dying(real: Callable) -> Callable:
        return lambda *names, **options: os._exit(9) if next(left, None) is None else real(*names, **options)

    for name in ("replace", "rename", "unlink", "rmdir"):
        setattr(os, name, dying(getattr(os, name)))
    run([node], work, Resources(), say=lambda line: None)


def test_a_kill_at_any_moment_costs_a_training_at_most_one_step(tmp_path: Path) -> None:
    train = load_toy("train_steps")
    node = Node("trained", train, train.Config(steps=2), {})
    for number in count():
        work = tmp_path / str(number)
        process = multiprocessing.get_context("fork").Process(target=run_until, args=(number, node, work))
        process.start()
        process.join()
        (path,) = run([node], work, Resources(), say=lambda line: None)
        assert len((work / "steps.txt").read_text().split()) <= 3, number
        assert sorted(contents.own_files(path)) == ["weights.json"] and contents.is_complete(path)
        if process.exitcode == 0:
            break
    assert number > 10
