"""Before a run on a cluster: what is wrong with it is one line; what is right, too."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from lima_core import cluster as clusters
from lima_core.cost import Cost, Scale, SceneScale
from lima_core.errors import ConfigError
from lima_core.types import Resources
from pipeline import cluster
from pipeline.building import costs_at_work
from pipeline.node import Node, Source
from pipeline.planning import plan
from tests.clusters import ROOT, Cluster, wait_for, wait_for_workers
from tests.clusters import cluster as running
from tests.small_experiment import data_of, lima, start_lima, write_experiment


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("cluster"), num_workers=1) as found:
        yield found


@pytest.fixture
def target(toys: SimpleNamespace, tmp_path: Path) -> Node:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "scan.bin").write_text("1")
    return toys.numbers(raw=Source(tmp_path / "raw", "digest"))


def test_a_good_cluster_is_one_line(one: Cluster, target: Node, tmp_path: Path) -> None:
    told = cluster.check(one.address, tmp_path / "work", [target])
    assert told == f"cluster {one.address}: 1 worker, 1 thread"
    assert [path for path in (tmp_path / "work").rglob("*") if path.is_file()] == []


def test_costs_are_told_with_the_threads_of_the_cluster_and_the_memory_of_this_machine(
    toys: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def estimate(config: object, scale: Scale, resources: Resources) -> Cost:
        return Cost(5, 10 * resources.workers, 640.0 / resources.workers)

    scale = Scale((SceneScale(train=1),), num_cameras=6, num_points=1000, image_size_px=(90, 160))
    monkeypatch.setattr(toys.make, "scale", lambda config: scale, raising=False)
    monkeypatch.setattr(toys.make, "estimate", estimate, raising=False)
    monkeypatch.setattr(clusters, "num_threads", lambda address: 64)
    steps = plan([toys.numbers()], tmp_path)
    (cost,), told = costs_at_work(steps, tmp_path, Resources(workers=2, scheduler="tcp://a:1"))
    assert (cost.disk_bytes, cost.memory_bytes, cost.seconds) == (5, 10, 10.0)
    assert told == "; scenes on 64 threads of the cluster, whose memory is not counted"
    (cost,), told = costs_at_work(steps, tmp_path, Resources(workers=2))
    assert (cost.memory_bytes, cost.seconds, told) == (20, 320.0, "")


def test_threads_of_a_cluster(one: Cluster) -> None:
    assert clusters.num_threads(one.address) == 1


def test_a_work_folder_that_a_worker_does_not_see(
    one: Cluster, target: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "write_json", lambda *_: (tmp_path / "work").mkdir())  # as if on another disk
    told = rf"^worker tcp://127.0.0.1:\d+: does not see the work folder {tmp_path}/work; every worker must see it under"
    with pytest.raises(ConfigError, match=told):
        cluster.check(one.address, tmp_path / "work", [target])


def test_recordings_that_a_worker_does_not_see(
    one: Cluster, target: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "listing", lambda _: "of another disk")
    with pytest.raises(ConfigError, match=rf": does not see the folder {tmp_path}/raw; every worker must see it under"):
        cluster.check(one.address, tmp_path / "work", [target])


def test_a_worker_with_other_packages_or_another_python(
    one: Cluster, target: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, own in (("python", "3.99.0"), ("numpy", "9.9")):
        monkeypatch.setattr(cluster, "software", lambda name=name, own=own: {name: own})
        monkeypatch.setattr(cluster, "_asked", lambda *_, name=name: {"tcp://a": {name: "1.0"}})
        with pytest.raises(
            ConfigError, match=rf"^worker tcp://a: has {name} 1.0, this process {own}; install the same"
        ):
            cluster.check(one.address, tmp_path / "work", [target])


def copy_of_lima(folder: Path) -> Path:
    """The same code but for a comment."""
    for package in ("lima_core", "stages", "pipeline"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "lima_core" / "types.py").open("a") as file:
        file.write("# edited\n")
    return folder


def broken_lima(folder: Path) -> Path:
    (folder / "lima_core").mkdir(parents=True)
    (folder / "lima_core" / "__init__.py").touch()
    (folder / "lima_core" / "software.py").write_text("import not_installed\n")
    return folder


def test_no_workers_then_one_with_other_code_then_one_without_lima(target: Node, tmp_path: Path) -> None:
    other, broken = copy_of_lima(tmp_path / "other"), broken_lima(tmp_path / "broken")
    told = (
        "has lima's code [0-9a-f]{12}, this process [0-9a-f]{12}; install the same",
        r"cannot run lima \(.*not_installed",
    )
    with running(tmp_path / "cluster", num_workers=0) as found:
        with pytest.raises(ConfigError, match=rf"^{found.address}: the scheduler has no workers; start some, on "):
            cluster.check(found.address, tmp_path / "work", [target])
        for number, (path, line) in enumerate(zip((other, broken), told, strict=True), start=1):
            worker = found.add_worker(path=path)
            wait_for_workers(found, number)
            with pytest.raises(ConfigError, match=rf"^worker tcp://127.0.0.1:\d+: {line}"):
                cluster.check(found.address, tmp_path / "work", [target])
            worker.terminate()
            worker.wait()


def test_nobody_at_the_address_is_told_before_anything_starts(tmp_path: Path) -> None:
    config, work = write_experiment(tmp_path), tmp_path / "work"
    done = lima("stage", "index", "-c", config, "--work", work, "--scheduler", "tcp://127.0.0.1:1")
    assert done.returncode == 2 and done.stderr.startswith("lima: tcp://127.0.0.1:1: no scheduler answers there (")
    assert len(done.stderr.splitlines()) == 1 and not list(work.glob("*.partial"))


@pytest.mark.slow
@pytest.mark.parametrize("nanny", [True, False])
def test_a_run_over_a_cluster_whose_workers_are_killed_is_that_of_one_process(tmp_path: Path, nanny: bool) -> None:
    config = write_experiment(tmp_path)
    alone = lima("stage", "build-memory", "-c", config, "--work", tmp_path / "alone", "--workers", "0")
    assert alone.returncode == 0, alone.stderr
    with running(tmp_path / "cluster", 2, *(["--nanny"] if nanny else [])) as found:
        words = ("--work", tmp_path / "beside", "--scheduler", found.address)
        process = start_lima("stage", "build-memory", "-c", config, *words)
        for kind in ("synth", "build-memory"):
            wait_for(lambda kind=kind: list((tmp_path / "beside").glob(f"{kind}-*")) or process.poll() is not None, 400)
            number = len(found.workers)
            os.kill(found.pids()[0], signal.SIGKILL)
            if not nanny:
                found.add_worker()
                wait_for_workers(found, number + 1)
        out, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert f"cluster {found.address}: 2 workers, 2 threads" in out and "distributed" not in errors
        (codes,) = (tmp_path / "beside").glob("build-memory-*/memory.zarr/scene-0061/view/c/0/0")
        codes.write_bytes(codes.read_bytes()[:-9])
        mended = lima("verify", config, "--repair", "--workers", "0", *words)
        assert mended.returncode == 0 and "same bytes as before" in mended.stdout, mended.stderr
        assert f"cluster {found.address}: 2 workers, 2 threads" in mended.stdout
    expected, other = data_of(tmp_path / "alone"), data_of(tmp_path / "beside")
    assert other.keys() == expected.keys() and [name for name in expected if other[name] != expected[name]] == []


def test_connecting_gives_up_in_seconds() -> None:
    assert clusters.CONNECT_S <= 5
