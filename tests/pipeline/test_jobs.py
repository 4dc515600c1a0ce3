"""Several processes on toy stages: the same artifacts, an order that inputs allow, errors and interruptions."""

import importlib
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from lima_core.errors import UserError
from lima_core.types import Resources
from pipeline import jobs
from pipeline.node import Node
from pipeline.planning import plan

TOYS = Path(__file__).parent / "toys"


@pytest.fixture
def flow(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Toys that another process can import."""
    monkeypatch.syspath_prepend(str(TOYS))
    make, add = importlib.import_module("make_numbers"), importlib.import_module("add_numbers")

    def numbers(**config: object) -> Node:
        return Node("numbers", make, make.Config(**config), {})

    def total(read: Node, **config: object) -> Node:
        return Node("total", add, add.Config(**config), {"numbers": read})

    return SimpleNamespace(numbers=numbers, total=total)


def run(targets: list[Node], work: Path, num_jobs: int, **more: object) -> list[str]:
    lines: list[str] = []
    jobs.run(plan(targets, work), work, Resources(), num_jobs, say=more.pop("say", lines.append), **more)
    return lines


def test_two_jobs_make_what_one_makes(flow: SimpleNamespace, tmp_path: Path) -> None:
    reads = [flow.numbers(factor=float(factor)) for factor in (1, 2)]
    targets = [flow.total(read) for read in reads]
    seen: list[str] = []
    lines = run(targets, tmp_path / "two", 2, after=lambda node: seen.append(node.name))
    run(targets, tmp_path / "one", 1)
    data = [
        {path.relative_to(work): path.read_text() for path in work.glob("*/s*.json")}
        for work in (tmp_path / "one", tmp_path / "two")
    ]
    assert data[0] == data[1] and len(data[0]) == 2 * (3 + 1)
    assert sorted(seen) == ["numbers", "numbers", "total", "total"]
    assert sum(" finished " in line for line in lines) == 4 and all(line.startswith("[") for line in lines)
    again = run(targets, tmp_path / "two", 2)
    assert [line.split()[1] for line in again] == ["cached"] * 4


def test_lines_are_marked(flow: SimpleNamespace, tmp_path: Path) -> None:
    node = flow.numbers()
    assert all(line.endswith("  | base") for line in run([node], tmp_path, 1, marks={node.fingerprint: "base"}))


def test_one_that_fails_stops_the_others_and_is_told(flow: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "slow").touch()
    # The one that fails waits for a third, so that the slow one is at work by then.
    slow, third = flow.numbers(scenes=500), flow.numbers(scenes=10)
    bad = Node("bad", third.stage, third.stage.Config(fail=True), {"raw": third})
    lines: list[str] = []
    started = time.monotonic()
    with pytest.raises(UserError, match=r"^toy: this toy was told to fail$"):
        run([slow, flow.total(slow), bad], tmp_path, 2, say=lines.append)
    assert time.monotonic() - started < 60  # not the 100 seconds of the slow one
    assert slow.partial_path(tmp_path).exists() and not slow.path(tmp_path).exists()
    assert any("stopped" in line and "the same command goes on from there" in line for line in lines)


def test_interrupted_all_stop_and_go_on_later(flow: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "slow").touch()
    slow = flow.numbers(scenes=40)
    lines: list[str] = []
    both = [slow, flow.numbers(scenes=41)]

    def interrupt() -> None:
        while not all((node.partial_path(tmp_path) / "scene-0.json").exists() for node in both):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run(both, tmp_path, 2, say=lines.append)
    assert sum("stopped" in line for line in lines) == 2
    (tmp_path / "slow").unlink()
    again = run(both, tmp_path, 2)
    assert sum("resuming" in line for line in again) == 2 and all(node.path(tmp_path).exists() for node in both)


def test_a_job_that_ends_while_it_is_asked_to_stop_keeps_no_other_running() -> None:
    context = multiprocessing.get_context("spawn")
    gone = subprocess.Popen(["true"])
    gone.wait()
    ended, ending = context.Pipe(duplex=False)
    ending.close()
    dead = SimpleNamespace(is_alive=lambda: True, pid=gone.pid, join=lambda: None)
    reader, writer = context.Pipe(duplex=False)
    alive = context.Process(target=time.sleep, args=(60,), daemon=True)
    alive.start()
    writer.close()
    step = SimpleNamespace(node=SimpleNamespace(fingerprint="a"))
    jobs._stop([jobs._Job(step, dead, ended), jobs._Job(step, alive, reader)], {"a": print})
    assert alive.exitcode


def test_workers_are_shared_out() -> None:
    shared = [jobs.share(Resources(workers=workers), 2).workers for workers in (0, 1, 2, 8)]
    assert shared == [0, 1, 1, 4]
