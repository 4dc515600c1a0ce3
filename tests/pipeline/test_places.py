"""A work folder on an object storage: what is built where, what is read from where, and what is left after a death."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from lima_core import whole
from lima_core.errors import BusyError, StoreError
from lima_core.storage import (
    Location,
    children,
    files_below,
    is_file,
    location,
    read_bytes,
    remove_remote,
    upload,
    write_bytes,
)
from lima_core.types import Resources
from lima_core.whole import remove
from pipeline import disk, jobs, lease, lock, manifest
from pipeline.cleaning import leftovers, removed
from pipeline.lease import Rhythm
from pipeline.node import Node
from pipeline.places import at_hand, fetched, here, scratch_of
from pipeline.planning import plan
from pipeline.runner import run

ROOT = Path(__file__).parents[2]
QUICK = Rhythm(beat_s=0.05, stale_s=1.0, settle_s=0.05)
CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from conftest import load_toy
from lima_core.storage import location
from lima_core.types import Resources
from pipeline import lease
from pipeline.node import Node
from pipeline.runner import run
lease.RHYTHM = lease.Rhythm(beat_s=0.05, stale_s=1.0, settle_s=0.05)
make = load_toy("make_parts")
run([Node("parts", make, make.Config(scenes=6, pause_s=0.3), {{}})], location({work!r}), Resources())
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RHYTHM", QUICK)


@pytest.fixture
def flow(toys: SimpleNamespace) -> Node:
    """A local stage, a store over it, and a local stage that reads the store."""
    return toys.whole(toys.parts(toys.numbers()))


def data(artifact: Location) -> dict[str, bytes]:
    names = [name for name in files_below(artifact) if name.split("/")[0] not in ("logs", "manifest.json")]
    return {name: read_bytes(artifact / name) for name in names if name != "checksums.json"}


@pytest.mark.parametrize("kind", ["memory_work", "s3_work"])
def test_a_flow_ends_with_the_same_bytes_as_on_disk(
    kind: str, request: pytest.FixtureRequest, flow: Node, tmp_path: Path
) -> None:
    work, lines = request.getfixturevalue(kind), []
    (there,) = run([flow], work, Resources(), say=lines.append)
    (on_disk,) = run([flow], tmp_path / "work", Resources())
    for node in (flow, *flow.upstream, *flow.upstream[0].upstream):
        assert data(node.path(work)) == data(node.path(tmp_path / "work")) != {}
        remote, local = manifest.read(node.path(work)), manifest.read(node.path(tmp_path / "work"))
        assert remote.summary == local.summary and remote.content == local.content
    assert json.loads(read_bytes(there / "sum.json")) == json.loads((on_disk / "sum.json").read_text())
    assert lines[0] == f"{work} holds the artifacts; what cannot be built or read there is in {scratch_of(work)}"
    assert children(work / ".locks") == []
    lines.clear()
    run([flow], work, Resources(), say=lines.append)
    assert [line.split()[1] for line in lines[1:]] == ["cached"] * 3


def test_only_what_cannot_be_read_there_is_in_the_scratch(memory_work: Location, flow: Node) -> None:
    run([flow], memory_work, Resources())
    (parts,) = flow.upstream
    (numbers,) = parts.upstream
    found = {path.name for path in children(scratch_of(memory_work)) if not path.name.startswith(".")}
    assert found == {numbers.path(memory_work).name, flow.path(memory_work).name}
    assert at_hand(parts, memory_work) == parts.path(memory_work)


def test_another_machine_fetches_what_it_reads_once(
    memory_work: Location, toys: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    numbers = toys.numbers()
    run([numbers], memory_work, Resources())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert at_hand(numbers, memory_work) is None
    lines: list[str] = []
    run([toys.parts(numbers)], memory_work, Resources(), say=lines.append)
    assert sum("fetching  numbers-" in line for line in lines) == 1
    run([toys.parts(numbers, scenes=5)], memory_work, Resources(), say=lines.append)
    assert sum("fetching  numbers-" in line for line in lines) == 1
    assert data(at_hand(numbers, memory_work)) == data(numbers.path(memory_work))


def test_a_copy_of_another_build_is_not_taken(memory_work: Location, toys: SimpleNamespace) -> None:
    (path,) = run([toys.numbers()], memory_work, Resources())
    copy = fetched(path, print)
    (copy / "manifest.json").write_text(
        (copy / "manifest.json").read_text().replace('"created": "20', '"created": "19')
    )
    (copy / "scene-0.json").write_text("old")
    assert json.loads((fetched(path, print) / "scene-0.json").read_text()) == {"value": 0.0}


def test_a_damaged_file_is_not_fetched(memory_work: Location, toys: SimpleNamespace) -> None:
    (path,) = run([toys.numbers()], memory_work, Resources())
    remove(scratch_of(memory_work))
    write_bytes(path / "scene-1.json", b'{"value": 9}')
    with pytest.raises(StoreError, match=r"1 files are missing or damaged, the first: scene-1\.json; run lima verify"):
        fetched(path, print)
    assert not (scratch_of(memory_work) / path.name).exists()


def test_without_a_manifest_it_is_half_built_and_goes_on(memory_work: Location, toys: SimpleNamespace) -> None:
    node = toys.parts()
    write_bytes(node.path(memory_work) / "part-0.json", b"0\n")
    assert [step.state for step in plan([node], memory_work)] == ["resume"]
    (path,) = run([node], memory_work, Resources())
    record = manifest.read(path)
    assert record.resumed and record.summary["made"] == 2


def test_an_upload_that_was_cut_off_is_all_that_is_left_to_do(
    memory_work: Location, toys: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(local: Path, place: Location) -> None:
        if local.name == "scene-1.json":
            raise KeyboardInterrupt
        upload(local, place)

    node, lines = toys.numbers(), []
    path = node.path(memory_work)
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(whole, "upload", cut_off)
        run([node], memory_work, Resources())
    expected = {file.name: file.read_bytes() for file in node.partial_path(here(memory_work)).glob("scene-*.json")}
    assert len(expected) == 3 and not is_file(path / "manifest.json")
    write_bytes(path / "stray.json", b"of an earlier try")
    assert [step.state for step in plan([node], memory_work)] == ["resume"]
    run([node], memory_work, Resources(), say=lines.append)
    assert lines[1:] == [f"[1/1] finished  {path.name}, of which only the last step was missing"]
    assert data(path) == expected


def test_what_the_user_removed_is_built_again_though_there_is_a_copy(
    memory_work: Location, toys: SimpleNamespace
) -> None:
    node, lines = toys.numbers(), []
    (path,) = run([node], memory_work, Resources())
    assert fetched(path, print).exists()
    remove(path)
    assert [step.state for step in plan([node], memory_work)] == ["build"]
    run([node], memory_work, Resources(), say=lines.append)
    assert "started" in lines[1] and data(path) == data(fetched(path, print))


def test_a_stopped_local_stage_goes_on_in_the_scratch(memory_work: Location, toys: SimpleNamespace) -> None:
    node, lines = toys.whole(toys.parts(), fail=True), []
    with pytest.raises(KeyboardInterrupt):
        run([node], memory_work, Resources(), say=lines.append)
    assert "what is finished is kept" in lines[-1]
    assert not is_file(node.path(memory_work) / "manifest.json") and children(node.path(memory_work)) == []
    assert node.partial_path(here(memory_work)).is_dir()
    assert [step.state for step in plan([node], memory_work)] == ["cached", "resume"]


@pytest.fixture
def child(s3_work: Location) -> Iterator[tuple[subprocess.Popen, Location]]:
    """A process that builds six scenes slowly on S3, once it has finished the first of them."""
    code = CHILD.format(tests=str(Path(__file__).parent), work=str(s3_work))
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not any(name.endswith("part-0.json") for name in files_below(s3_work)):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield process, s3_work
    process.kill()
    process.communicate()


def test_a_second_run_on_s3_is_refused_and_after_a_kill_ends_with_the_same_bytes(
    child: tuple[subprocess.Popen, Location], toys: SimpleNamespace, tmp_path: Path
) -> None:
    process, work = child
    node, lines = toys.parts(scenes=6, pause_s=0.3), []
    with pytest.raises(BusyError, match=rf"is being built by pid {process.pid} on "):
        run([node], work, Resources())
    assert process.poll() is None
    process.kill()
    process.communicate()
    assert [step.state for step in plan([node], work)] == ["resume"]
    (path,) = run([node], work, Resources(), say=lines.append)
    assert any("taken over from pid" in line for line in lines)
    assert manifest.read(path).resumed and manifest.read(path).summary["made"] < 6
    (undisturbed,) = run([toys.parts(scenes=6, pause_s=0.3)], tmp_path / "calm", Resources())
    assert data(path) == data(undisturbed)


@pytest.mark.slow
def test_artifacts_are_built_side_by_side(s3_work: Location, toys: SimpleNamespace) -> None:
    numbers, lines = toys.numbers(), []
    wanted = [toys.whole(toys.parts(numbers)), toys.whole(toys.parts(numbers, scenes=5)), toys.parts()]
    jobs.run(plan(wanted, s3_work), s3_work, Resources(), 2, say=lines.append)
    assert {step.state for step in plan(wanted, s3_work)} == {"cached"}
    assert sum("started" in line for line in lines) == 6
    assert [read_bytes(node.path(s3_work) / "sum.json") for node in wanted[:2]] == [b"21.0\n", b"40.0\n"]


def test_a_run_whose_lease_was_taken_stops_with_one_line(memory_work: Location, toys: SimpleNamespace) -> None:
    node = toys.parts(scenes=200, pause_s=0.02)
    place = lock.lock_path(node.path(memory_work))

    def steal(line: str) -> None:
        if "started" in line:
            write_bytes(place, b'{"token": "theirs", "pid": 7, "host": "node9", "since": "noon"}')

    with pytest.raises(BusyError, match="was taken over by pid 7 on node9 since noon"):
        run([node], memory_work, Resources(), say=steal)
    assert not is_file(node.path(memory_work) / "manifest.json")


def test_cleaning_finds_what_is_there_and_what_is_here(memory_work: Location, toys: SimpleNamespace) -> None:
    old, new = toys.numbers(), toys.parts()
    run([old, new], memory_work, Resources())
    write_bytes(memory_work / "index-0123abcd" / "part-0.json", b"0")
    write_bytes(memory_work / "photos-20240101" / "a.jpg", b"0")
    write_bytes(memory_work / "index-20240101", b"a file")
    found = leftovers([new], memory_work)
    assert [(item.path, item.kind) for item in found] == [
        (memory_work / "index-0123abcd", "partial"),
        (old.path(memory_work), "artifact"),
        (old.path(here(memory_work)), "artifact"),
    ]
    assert all(removed(item) for item in found)
    assert leftovers([new], memory_work) == []
    assert [step.state for step in plan([new], memory_work)] == ["cached"]


def test_the_scratch_is_named_by_the_url_and_free_space_is_not_known(memory_work: Location, tmp_path: Path) -> None:
    assert scratch_of(tmp_path) is None and here(tmp_path) == tmp_path
    found = scratch_of(location("s3://bucket/some/work/"), {"XDG_CACHE_HOME": "/c"})
    assert str(found).startswith("/c/lima/bucket-some-work-") and len(found.name) == len("bucket-some-work-") + 8
    assert found == scratch_of(location("s3://bucket/some/work"), {"XDG_CACHE_HOME": "/c"})
    assert found != scratch_of(location("s3://bucket-some/work"), {"XDG_CACHE_HOME": "/c"})
    assert disk.free_bytes(memory_work) is None and disk.free_text(memory_work) == "free space not known"


@pytest.mark.parametrize("kind", ["parts", "numbers"])
def test_a_run_that_slept_while_another_finished_leaves_its_artifact_alone(
    memory_work: Location, toys: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    node, lines = getattr(toys, kind)(), []
    monkeypatch.setattr(lease, "RHYTHM", Rhythm(beat_s=60, stale_s=300, settle_s=0.01))

    def others_finish(line: str) -> None:
        lines.append(line)
        if "started" in line:
            write_bytes(node.path(memory_work) / "manifest.json", json.dumps(theirs).encode())
            remove_remote(lock.lock_path(node.path(memory_work)))

    (path,) = run([node], memory_work, Resources())
    theirs = json.loads(read_bytes(path / "manifest.json"))
    for place in (path, node.path(here(memory_work))):
        remove(place)
    run([node], memory_work, Resources(), say=others_finish)
    assert lines[-1].endswith(f"{path.name} by another process meanwhile; what was built here is dropped")
    assert json.loads(read_bytes(path / "manifest.json")) == theirs
    assert not node.partial_path(here(memory_work)).exists()
