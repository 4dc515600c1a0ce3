"""Every damage is found and named, repaired to the same bytes, and nothing else is touched; also after any death."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lima_core.checksums import write_stamped
from lima_core.errors import BusyError, StoreError
from lima_core.storage import Location, files_below, read_bytes, write_bytes
from lima_core.types import Resources
from lima_core.whole import DISCARDED
from pipeline import graph, lease, lock, manifest, places
from pipeline.cleaning import leftovers, removed
from pipeline.config import validate
from pipeline.integrity import contents, repair, summing
from pipeline.integrity.checks import check
from pipeline.integrity.repair import Place
from pipeline.integrity.verify import repair_all, verify
from pipeline.node import Node, topological
from pipeline.places import scratch_of
from pipeline.runner import run
from tests.pipeline.conftest import load_toy
from tests.small_experiment import EXPERIMENT

RECORDS = (manifest.FILE, contents.FILE)
SCENES = "toy.zarr/scene-1"


@pytest.fixture(scope="module")
def flow() -> Node:
    """Sealed scenes over files that are one piece, and files that are one piece over those."""
    numbers, scenes, total = load_toy("make_numbers"), load_toy("make_scenes"), load_toy("add_parts")
    read = Node("numbers", numbers, numbers.Config(), {})
    store = Node("store", scenes, scenes.Config(), {"numbers": read})
    return Node("total", total, total.Config(), {"parts": store})


@pytest.fixture(scope="module")
def finished(flow: Node, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("finished")
    run([flow], work, Resources())
    return work


@pytest.fixture
def work(finished: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged; times of files are kept."""
    return Path(shutil.copytree(finished, tmp_path / "work"))


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    times = file.stat()
    file.write_bytes(data)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def shorten(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


DAMAGES: dict[str, Callable[[Path], None]] = {"flip": flip, "shorten": shorten, "remove": Path.unlink}


def everything(nodes: list[Node], work: Location, quick: bool = False) -> tuple[list[str], list[str]]:
    """Problems, and the other lines."""
    lines: list[str] = []
    found = verify(nodes, work, False, quick, lines.append)
    return [str(problem) for problem in found.problems], [line for line in lines if not line.startswith("problem")]


def mend(nodes: list[Node], work: Location) -> list[str]:
    """Verifies and repairs; returns what is said."""
    lines: list[str] = []
    found = verify(nodes, work, False, False, lines.append)
    able = {node.path(work).name: Place(node, work, Resources(), False, lines.append) for node in topological(nodes)}
    assert repair_all(found, able, lines.append) == []
    return lines


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {name: read_bytes(folder / name) for name in files_below(folder)}


def state(work: Location) -> dict[str, bytes | str]:
    """Bytes of all files of artifacts; of what tells of the session, only what it tells of the data."""
    names = [name for name in files_below(work) if not name.startswith(".") and "/logs/" not in name]
    found: dict[str, bytes | str] = {name: read_bytes(work / name) for name in names if name.count("/")}
    artifacts = {name.split("/")[0] for name in found}
    listed = {f"{name}/{contents.FILE}": contents.read(work / name)[0].digest for name in artifacts}
    return {name: data for name, data in found.items() if not name.endswith(f"/{manifest.FILE}")} | listed


def times(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_mtime_ns for name in files_below(folder)}


def kind_of(name: str) -> str:
    """The same for files that differ in their scene, frame or camera only."""
    parts = name.split("/")
    scene = "*" if len(parts) > 2 and parts[1].startswith("scene-") else ""
    return "/".join([*parts[:1], scene, *parts[2:-1], name[-5:] if parts[-1] not in ("0", "zarr.json") else parts[-1]])


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Node], Path]:
    """Synthetic world, index, features with a basis, and bank: everything that is a store."""
    sections = ("name", "index", "build_memory", "distill", "finetune")
    world = EXPERIMENT["synth"] | {"num_val_scenes": 0, "camera": {"image_size_px": [24, 56]}}
    features = {"image_size_px": [24, 56], "fit_images": 4, "codec": "pca4"}
    data = {key: EXPERIMENT[key] for key in sections} | {"synth": world, "extract_features": features}
    nodes = graph.build(validate(data, graph.Experiment, where="test"))
    stores = [node for node in nodes if node.kind in ("synth", "index", "extract-features", "build-memory")]
    work = tmp_path_factory.mktemp("real")
    run(stores, work, Resources())
    return stores, work


def test_all_is_well_after_a_run(real: tuple[list[Node], Path]) -> None:
    nodes, work = real
    problems, lines = everything(nodes, work)
    assert problems == [] and [line.split()[0] for line in lines] == ["ok"] * 4
    for node in nodes:
        listed, _ = contents.read(node.path(work))
        expected = {name for name in files_below(node.path(work)) if name not in RECORDS}
        assert listed.files.keys() == expected
    parts = {node.kind: len(contents.read(node.path(work))[0].parts) for node in nodes}
    assert parts == {"synth": 0, "index": 0, "extract-features": 2, "build-memory": 2}


def test_damage_to_every_kind_of_file_is_found_and_named(real: tuple[list[Node], Path]) -> None:
    nodes, work = real
    kinds = 0
    for artifact in (node.path(work) for node in nodes):
        kind = {kind_of(name): name for name in sorted(files_below(artifact))}
        kinds += len(kind)
        for name in kind.values():
            data = (artifact / name).read_bytes()
            for how, damage in DAMAGES.items():
                if not data and how != "remove":
                    continue
                damage(artifact / name)
                (found,) = check([artifact], quick=False)
                (problem,) = found.problems
                assert (problem.artifact, problem.file) == (artifact.name, name), (how, problem)
                if name not in RECORDS:
                    told = {"flip": ("damaged", "unreadable"), "shorten": ("truncated: ",), "remove": ("missing",)}
                    assert problem.what.startswith(told[how])
                    assert (problem.part or "").rpartition("/")[2] == (name.split("/")[1] if "/scene-" in name else "")
                (artifact / name).write_bytes(data)
            (artifact / f"{name}.more").write_bytes(b"more")
            (found,) = check([artifact], quick=False)
            assert [(it.file, it.what) for it in found.problems] == [(f"{name}.more", "not listed: unexpected file")]
            (artifact / f"{name}.more").unlink()
    assert kinds > 30
    assert not any(found.problems for found in check([node.path(work) for node in nodes], quick=False))


@pytest.mark.parametrize(
    ("kind", "damaged"),
    [
        ("extract-features", ("features.zarr/scene-0553/codes/c/0/0/0/0/0", "basis.zarr/c/0/0")),
        ("extract-features", ("features.zarr/scene-0553/zarr.json", "teacher.safetensors", "features.zarr/zarr.json")),
        ("build-memory", ("memory.zarr/scene-0553/view/c/0/0", "memory.zarr/zarr.json")),
        ("index", ("frames.parquet",)),
    ],
)
@pytest.mark.parametrize("how", ["flip", "remove"])
def test_a_repair_gives_the_same_bytes_and_touches_nothing_else(
    real: tuple[list[Node], Path], tmp_path: Path, kind: str, damaged: tuple[str, ...], how: str
) -> None:
    nodes, finished = real
    work = Path(shutil.copytree(finished, tmp_path / "work"))
    (artifact,) = (node.path(work) for node in nodes if node.kind == kind)
    before, written = state(work), times(work)
    for name in damaged:
        DAMAGES[how](artifact / name)
    lines = mend(nodes, work)
    assert [line for line in lines if "same bytes as before" in line], lines
    assert state(work) == before
    changed = {name for name, at in times(work).items() if written.get(name) != at and not name.startswith(".")}
    assert {name.split("/")[0] for name in changed} == {artifact.name}
    assert not [name for name in changed if "scene-0061" in name]
    assert everything(nodes, work)[0] == []


def test_a_problem_is_one_line_and_the_summary_names_scenes(flow: Node, work: Path) -> None:
    artifact = flow.upstream[0].path(work)
    shorten(artifact / SCENES / "values/c/0")
    shutil.rmtree(artifact / "toy.zarr/scene-2")
    assert everything([flow], work)[0] == [
        f"{artifact.name}: toy.zarr/scene-2: missing with all its files",
        f"{artifact.name}: {SCENES}: values/c/0: truncated: 819 of 820 bytes",
    ]
    summary = verify([flow], work, False, False, print).summary()
    assert summary.startswith("2 problems in 1 folder, scenes affected: scene-1, scene-2: 3 artifacts, ")
    assert summary.endswith("; lima verify CONFIG --repair rebuilds what is damaged, and only that")


def test_a_work_folder_that_is_not_there_is_told(flow: Node, tmp_path: Path, memory_work: Location) -> None:
    for typo in (tmp_path / "wrok", memory_work / "wrok"):
        with pytest.raises(StoreError, match=r"wrok: there is no such work folder; give --work"):
            verify([flow], typo, True, False, print)


def test_a_lease_of_a_dead_run_is_not_in_use(
    flow: Node, memory_work: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RHYTHM", lease.Rhythm(beat_s=0.05, stale_s=0.3, settle_s=0.05))
    artifact = flow.upstream[0].path(memory_work)
    write_bytes(artifact / "fitted.json", b"half")
    for dead in ({"token": "theirs"}, {"pid": 2**22 + 1, "space": lease._pid_space()}):
        write_bytes(lock.lock_path(artifact), json.dumps(dead).encode())
        lines = everything([flow.upstream[0]], memory_work)[1]
        assert lines[-1].startswith(f"half-built {artifact.name}: ")
    with lock.held(artifact, False, print):
        assert everything([flow.upstream[0]], memory_work)[1][-1].startswith(f"in use    {artifact.name}: ")


def test_quick_looks_at_sizes_only(flow: Node, work: Path) -> None:
    artifact = flow.upstream[0].path(work)
    flip(artifact / SCENES / "values/c/0")
    assert everything([flow], work, quick=True)[0] == []
    shorten(artifact / SCENES / "values/c/0")
    assert len(everything([flow], work, quick=True)[0]) == 1


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("how", DAMAGES)
def test_manifest_and_list_are_written_again_from_each_other(flow: Node, work: Path, name: str, how: str) -> None:
    before = {path: (path / name).read_bytes() for path in (node.path(work) for node in topological([flow]))}
    for path in before:
        DAMAGES[how](path / name)
    lines = mend([flow], work)
    assert len([line for line in lines if line.endswith(f"{name} written again; all data is as it was")]) == 3
    assert {path: (path / name).read_bytes() for path in before} == before


def test_where_manifest_and_list_are_lost_only_sealed_scenes_are_kept(flow: Node, work: Path) -> None:
    store, before = flow.upstream[0].path(work), state(work)
    scene = times(store / SCENES)
    for name in RECORDS:
        flip(store / name)
    flip(store / "fitted.json")
    assert any("what it held before is not known in full" in line for line in mend([flow], work))
    assert state(work) == before and times(store / SCENES) == scene


def test_a_damaged_file_beside_a_lost_list_is_not_taken_for_sound(flow: Node, work: Path) -> None:
    store, before = flow.upstream[0].path(work), state(work)
    (store / contents.FILE).unlink()
    flip(store / "fitted.json")
    mend([flow], work)
    assert state(work) == before


def test_an_artifact_of_one_piece_is_built_again(flow: Node, work: Path) -> None:
    numbers, before = flow.upstream[0].upstream[0].path(work), state(work)
    flip(numbers / "scene-1.json")
    lines = mend([flow], work)
    assert any("it is one piece, so all of it is built again; it took 0 s last time" in line for line in lines)
    assert any(line.startswith(f"repaired  {numbers.name} in ") for line in lines)
    assert state(work) == before


def test_files_that_no_list_names_are_put_aside(flow: Node, work: Path) -> None:
    store, before = flow.upstream[0].path(work), state(work)
    (store / SCENES / "notes.txt").write_text("mine")
    mend([flow], work)
    assert (work / ".unlisted" / store.name / SCENES / "notes.txt").read_text() == "mine"
    assert state(work) == before


def test_other_bytes_than_before_are_told_and_so_is_what_was_built_from_them(
    flow: Node, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = flow.upstream[0].path(work)
    flip(store / SCENES / "values/c/0")
    monkeypatch.setenv("LIMA_TOY_SALT", "1")
    lines = mend([flow], work)
    told = f"but not as it was: 2 of 13 files differ: {SCENES}/values/c/0, {SCENES}/zarr.json"
    assert any(told in line for line in lines)
    (stale,) = [line for line in lines if line.startswith("stale")]
    assert stale.startswith(f"stale     {flow.path(work).name} was built from the old {store.name}; ")
    problems, lines = everything([flow], work)
    assert problems == []
    assert any(
        line.startswith(f"stale     {flow.path(work).name} was built from another {store.name}") for line in lines
    )
    assert verify([flow], work, False, False, print).summary().startswith("no damage, but 1 stale: 3 artifacts, ")


@pytest.mark.parametrize("name", RECORDS)
def test_what_another_version_wrote_is_told_and_left_as_it_is(flow: Node, work: Path, name: str) -> None:
    store = flow.upstream[0].path(work)
    record = json.loads((store / name).read_text())
    write_stamped(store / name, {key: value for key, value in record.items() if key != "crc32c"} | {"schema": 99})
    before = bytes_below(store)
    assert any("schema 99, this version reads" in line for line in everything([flow], work)[0])
    told = rf"{store.name}: was written by another version of lima; verify and repair it with the version that"
    with pytest.raises(StoreError, match=told):
        mend([flow], work)
    assert bytes_below(store) == before


def test_what_is_half_built_of_another_experiment_is_left_as_it_is(flow: Node, work: Path) -> None:
    store = flow.upstream[0]
    partial = store.path(work).rename(store.partial_path(work))
    for name in RECORDS:
        (partial / name).unlink()
    flip(partial / SCENES / "values/c/0")
    found, before = verify([], work, True, False, print), bytes_below(partial)
    assert repair_all(found, {}, print) == [partial.name]
    assert bytes_below(partial) == before


def test_a_repair_works_with_as_many_threads_as_the_artifact_was_made_with(
    flow: Node, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, before, found = flow.upstream[0].path(work), torch.get_num_threads(), []
    record = asdict(manifest.read(store))
    record["provenance"]["num_threads"] = before + 1
    contents.write(store, contents.read(store)[0], record)
    manifest.restore(store, record)
    flip(store / SCENES / "values/c/0")
    real = repair.run
    monkeypatch.setattr(repair, "run", lambda *a, **k: (found.append(torch.get_num_threads()), real(*a, **k)))
    mend([flow], work)
    assert found == [before + 1] and torch.get_num_threads() == before


def test_a_repair_builds_nothing_that_was_not_damaged(flow: Node, work: Path) -> None:
    (store,) = flow.upstream
    (numbers,) = store.upstream
    shutil.rmtree(numbers.path(work))
    flip(store.path(work) / "fitted.json")
    before = state(work)
    told = rf"{store.path(work).name}: cannot be repaired without what is not there: {numbers.path(work).name}; "
    with pytest.raises(StoreError, match=told + "run lima stage make-numbers first"):
        mend([flow], work)
    assert state(work) == before


def test_what_another_repair_has_mended_meanwhile_is_not_dropped(flow: Node, work: Path) -> None:
    store = flow.upstream[0]
    partial = store.path(work).rename(store.partial_path(work))
    for name in RECORDS:
        (partial / name).unlink()
    file = partial / SCENES / "values/c/0"
    whole = file.read_bytes()
    flip(file)
    found = verify([store], work, False, False, print)
    file.write_bytes(whole)
    repair_all(found, {store.path(work).name: Place(store, work, Resources(), False, print)}, print)
    assert file.read_bytes() == whole


def test_what_a_killed_repair_was_removing_is_left_to_clean(flow: Node, work: Path) -> None:
    numbers, store = flow.upstream[0].upstream[0].path(work), flow.upstream[0]
    other = work / f"{numbers.name}{DISCARDED}"
    shutil.copytree(numbers, other)
    shutil.copytree(numbers, store.partial_path(work))
    flip(flow.upstream[0].path(work) / "fitted.json")
    mend([flow], work)
    assert other.is_dir(), "another process may be removing it"
    shutil.copytree(numbers, store.partial_path(work))  # a slow writer's, beside what is finished
    found = leftovers([flow], work)
    assert [(it.path, it.kind) for it in found] == [(other, "damaged"), (store.partial_path(work), "partial")]
    assert all(removed(it) for it in found) and leftovers([flow], work) == []


class Death(BaseException):
    """Ends a repair wherever it is."""


STEPS = ((repair, "discard"), (repair, "remove"), (repair, "fsync_path"), (repair, "run"), (places, "sweep"))
STEPS += ((contents, "write_stamped"), (manifest, "write_stamped"), (Path, "rename"))


def killed_at(number: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Dies before the step of that number; returns how many steps there were."""
    count = [0]

    def dying(step: Callable) -> Callable:
        def call(*arguments: object, **named: object) -> object:
            count[0] += 1
            if count[0] == number:
                raise Death
            return step(*arguments, **named)

        return call

    for owner, name in STEPS:
        monkeypatch.setattr(owner, name, dying(getattr(owner, name)))
    return lambda: count[0]


def test_a_repair_may_die_at_every_step(flow: Node, finished: Path, tmp_path: Path) -> None:
    expected, number, died = state(finished), 0, True
    while died:
        number += 1
        work = Path(shutil.copytree(finished, tmp_path / f"work{number}"))
        store = flow.upstream[0].path(work)
        for name in (f"{SCENES}/values/c/0", "toy.zarr/scene-2/zarr.json", "fitted.json"):
            flip(store / name)
        with pytest.MonkeyPatch.context() as patch:
            killed_at(number, patch)
            try:
                mend([flow], work)
                died = False
            except Death:
                pass
        if number % 2:  # a run in between goes on with it, or leaves it to be found
            run([flow], work, Resources(), say=lambda line: None)
        mend([flow], work)
        assert everything([flow], work)[0] == []
        assert state(work) == expected, number
    assert number > 12


def test_parts_of_half_built_artifacts_are_checked(flow: Node, work: Path) -> None:
    store = flow.upstream[0]
    partial = store.path(work).rename(store.partial_path(work))
    for name in RECORDS:
        (partial / name).unlink()
    assert everything([store], work)[1][-1].startswith(f"half-built {partial.name}: 3 finished scenes, ")
    flip(partial / SCENES / "values/c/0")
    assert everything([store], work)[0] == [f"{partial.name}: {SCENES}: values/c/0: damaged: checksum differs"]
    lines = mend([store], work)
    assert lines[-1] == f"removed   {partial.name}: {SCENES}; the next run makes it again"
    assert sorted(path.name for path in (partial / "toy.zarr").iterdir()) == ["scene-0", "scene-2", "zarr.json"]


def test_what_is_being_built_is_left_alone(flow: Node, work: Path) -> None:
    store = flow.upstream[0]
    flip(store.path(work) / "fitted.json")
    found = verify([store], work, False, False, print)
    with lock.held(store.path(work), False, print):
        assert any(line.startswith(f"in use    {store.path(work).name}: ") for line in everything([store], work)[1])
        with pytest.raises(BusyError, match="is being built by pid"):
            place = Place(store, work, Resources(), False, print)
            repair_all(found, {place.path.name: place}, print)


def test_artifacts_without_a_list_are_told(flow: Node, work: Path) -> None:
    path = flow.path(work)
    record = json.loads((path / manifest.FILE).read_text())
    later = ("num_files", "content", "inputs_content", "crc32c")
    old = {key: value for key, value in record.items() if key not in later} | {"schema": 1}
    (path / manifest.FILE).write_text(json.dumps(old))
    (path / contents.FILE).unlink()
    problems, lines = everything([flow], work)
    assert problems == []
    assert any(line.startswith(f"ok?       {path.name}") and "without a list of checksums" in line for line in lines)


def test_ctrl_c_ends_the_sums_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks: list[int] = []

    def endless(place: Path, seen: Callable[[int], None]) -> None:
        while True:
            blocks.append(1)
            seen(1)

    def interrupted(progress: summing.BytesProgress) -> None:
        if len(blocks) > 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(summing, "file_sum", endless)
    monkeypatch.setattr(summing.BytesProgress, "show", interrupted)
    with pytest.raises(KeyboardInterrupt):
        summing.sums([(tmp_path / str(i), 10**9) for i in range(50)], "verify", threads=2)


def test_a_file_that_cannot_be_read_is_a_problem_like_others(
    flow: Node, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = summing.file_sum

    def failing(place: Path, seen: Callable[[int], None]) -> object:
        if place.name == "fitted.json":
            raise OSError(5, "Input/output error", str(place))
        return original(place, seen)

    monkeypatch.setattr(summing, "file_sum", failing)
    name = flow.upstream[0].path(work).name
    assert everything([flow], work)[0] == [f"{name}: fitted.json: cannot be read (Input/output error)"]


def test_progress_tells_rate_and_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(summing, "LINE_EVERY_S", 0.0)
    (tmp_path / "file").write_bytes(bytes(1000))
    summing.sums([(tmp_path / "file", 4000)], "verify", threads=1)
    assert "verify 1 kB/4 kB " in capsys.readouterr().err


@pytest.fixture
def storage(flow: Node, memory_work: Location, monkeypatch: pytest.MonkeyPatch) -> Location:
    monkeypatch.setattr(lease, "RHYTHM", lease.Rhythm(beat_s=0.05, stale_s=1.0, settle_s=0.05))
    run([flow], memory_work, Resources(), say=lambda line: None)
    return memory_work


def test_object_storage_is_verified_and_repaired(flow: Node, storage: Location) -> None:
    store = flow.upstream[0].path(storage)
    before = state(storage)
    assert everything([flow], storage)[0] == []
    for name in (f"{SCENES}/values/c/0", "basis.zarr/zarr.json"):
        write_bytes(store / name, b"x" + read_bytes(store / name)[1:])
    assert len(everything([flow], storage)[0]) == 2
    assert any("same bytes as before" in line for line in mend([flow], storage))
    assert state(storage) == before
    assert everything([flow], storage)[0] == []


def test_a_damaged_copy_of_what_lies_on_object_storage_is_removed(flow: Node, storage: Location) -> None:
    copy = flow.upstream[0].upstream[0].path(scratch_of(storage))
    flip(copy / "scene-1.json")
    lines = mend([flow], storage)
    assert any(line.startswith("problem   copy on this machine: numbers-") for line in lines)
    assert not copy.exists()
    assert everything([flow], storage)[0] == []
    run([flow], storage, Resources())


@pytest.mark.usefixtures("work")
class TestCommand:
    """What people type."""

    @pytest.fixture(autouse=True)
    def toy_flow(self, flow: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from pipeline import hardware, wanted

        monkeypatch.setattr(wanted, "nodes", lambda *_: topological([self.flow]))
        monkeypatch.setattr(wanted, "flow", lambda: SimpleNamespace())
        monkeypatch.setattr(hardware, "resources", lambda *words: Resources())
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        monkeypatch.chdir(tmp_path)
        (tmp_path / "x.yaml").write_text("name: toy\n")
        self.flow = flow

    def lima(self, *words: str) -> int:
        from pipeline import cli

        with pytest.raises(SystemExit) as exit_:
            cli.main(words)
        return exit_.value.code or 0

    def test_codes(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.lima("verify") == self.lima("verify", "x.yaml", "--quick") == 0
        flip(self.flow.upstream[0].path(Path("work")) / SCENES / "values/c/0")
        assert self.lima("verify") == self.lima("verify", "x.yaml") == 2
        assert capsys.readouterr().out.splitlines()[-1].startswith("1 problem in 1 folder")
        assert self.lima("verify", "x.yaml", "--repair") == 0
        assert capsys.readouterr().out.splitlines()[-1].startswith("all repaired: store-")
        assert self.lima("verify") == 0

    def test_quick_repairs_are_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.lima("verify", "--quick", "--repair") == 2
        assert "--repair needs the checksums; leave out --quick" in capsys.readouterr().err

    @pytest.mark.parametrize("words", [("--workers", "3"), ("--wait",), ("--scheduler", "tcp://a:1")])
    def test_how_to_build_is_of_a_repair(self, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
        assert self.lima("verify", *words) == 2
        assert f"lima: lima verify: {words[0]} is of --repair; leave it out" in capsys.readouterr().err

    def test_what_is_of_another_experiment_is_not_repaired(self, capsys: pytest.CaptureFixture[str]) -> None:
        path = self.flow.path(Path("work"))
        flip(path / "sum.json")
        self.flow = self.flow.upstream[0]
        assert self.lima("verify", "x.yaml", "--repair") == 0
        assert self.lima("verify", "x.yaml", "--repair", "--all") == 2
        assert f"work: not of this experiment and not repaired: {path.name}; give" in capsys.readouterr().err
