"""A scheduler and workers as processes of their own: the same results, whoever dies in the middle."""

import errno
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from lima_core import cluster
from lima_core.errors import ConfigError, DataError, UserError
from lima_core.parallel import PartsProgress, device_of_parts, map_parts
from lima_core.software import software
from lima_core.types import Resources
from stages import build_memory, extract_features
from tests.cluster_work import broken, slowly, waits_for, worker_of
from tests.clusters import Cluster, wait_for, wait_for_workers
from tests.clusters import cluster as running
from tests.stages.small_run import VOXEL_SIZE_M, index_of


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers without nannies; a test that kills one starts another."""
    with running(tmp_path_factory.mktemp("cluster")) as found:
        yield found


def on(found: Cluster) -> Resources:
    return Resources(scheduler=found.address)


def test_results_come_in_order_from_the_workers(two: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    results = map_parts(worker_of, range(8), on(two), "squares", "numbers")
    assert [part for part, _ in results] == list(range(8))
    assert {pid for _, pid in results} == set(two.pids())
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 8 and lines[-1].startswith("squares 8/8 numbers") and lines[-1].endswith("workers=2")


def test_a_single_part_goes_to_the_cluster_too(two: Cluster) -> None:
    assert map_parts(worker_of, [1], on(two), "test")[0][1] in two.pids()


def test_errors_come_through_as_themselves(two: Cluster) -> None:
    with pytest.raises(DataError, match=r"^part 2: nothing in it; leave it out$"):
        map_parts(partial(broken, 2), [1, 2], on(two), "test")
    with pytest.raises(OSError) as caught:
        map_parts(partial(broken, 1), [2], on(two), "test")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "/data/2")
    with pytest.raises(ZeroDivisionError) as bug:
        map_parts(partial(broken, 5), [-1], on(two), "test")
    assert bug.traceback[-1].name == "broken"


@contextmanager
def killing_when(path: Path, pattern: str, pid: int) -> Iterator[list[float]]:
    """Kills a process as soon as a path of that pattern is there; when it did."""
    killed: list[float] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            if next(path.glob(pattern), None):
                os.kill(pid, signal.SIGKILL)
                killed.append(time.monotonic())
                return
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_stage_whose_worker_is_killed_writes_the_same_bytes(two: Cluster, tmp_path: Path) -> None:
    raw, index = index_of(tmp_path)
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    config = build_memory.Config(frames=3, voxel_size_m=VOXEL_SIZE_M)
    expected = build_memory.run(config, build_memory.Inputs(raw, index), here, Resources())
    with killing_when(there, "**/*.writing", two.pids()[0]) as killed:
        found = build_memory.run(config, build_memory.Inputs(raw, index), there, on(two))
    assert killed and found == expected and files(here) == files(there)
    two.workers[0].wait()
    two.add_worker()
    wait_for_workers(two, len(two.workers))


def test_features_from_workers_are_those_of_this_process(two: Cluster, tmp_path: Path) -> None:
    raw, index = index_of(tmp_path)
    config = extract_features.Config(image_size_px=(24, 40), codec="pca3")
    for name, resources in (("here", Resources()), ("there", on(two))):
        (tmp_path / name).mkdir()
        extract_features.run(config, extract_features.Inputs(raw, index), tmp_path / name, resources)
    assert files(tmp_path / "here") == files(tmp_path / "there")


def test_two_at_the_same_scene_do_not_meet(tmp_path: Path) -> None:
    raw, index = index_of(tmp_path)
    for name in ("alone", "both"):
        (tmp_path / name).mkdir()
    config, inputs = build_memory.Config(frames=3, voxel_size_m=VOXEL_SIZE_M), build_memory.Inputs(raw, index)
    build_memory.run(config, inputs, tmp_path / "alone", Resources())
    build_memory.create_bank(tmp_path / "both", 3, VOXEL_SIZE_M, ("front", "side"), ["a", "b"])
    writers = [
        threading.Thread(target=build_memory.build_scene, args=(config, inputs, tmp_path / "both", scene))
        for scene in ("a", "a", "b", "a")
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    alone, both = files(tmp_path / "alone"), files(tmp_path / "both")
    assert both.keys() == alone.keys() and all(both[name] == alone[name] for name in alone if "/" in name)


def test_only_as_many_are_under_way_as_there_are_threads(two: Cluster, tmp_path: Path) -> None:
    with cluster.client_of(two.address) as client:
        mapping = cluster._Mapping(client, worker_of, on(two), on_gpu=False)
        most, submit = [], mapping._submit

        def counted(*arguments: object) -> None:
            submit(*arguments)
            most.append(len(mapping.running))

        mapping._submit = counted
        with PartsProgress("test", 40) as progress:
            mapping.run(range(40), progress)
        assert max(most) == 2
        wait_for(lambda: len(client.futures) == 0)


@pytest.mark.slow
def test_a_cluster_without_a_worker_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "LOOK_AGAIN_S", 0.1)
    with running(tmp_path / "one", num_workers=1) as one:
        thread = threading.Timer(0.1, lambda: (one.workers[0].kill(), wait_for(lambda: told(capsys)), one.add_worker()))
        go = tmp_path / "go"
        go.mkdir()

        def told(capsys: pytest.CaptureFixture[str]) -> bool:
            return "no worker is left" in "".join(lines.append(capsys.readouterr().err) or lines)

        lines: list[str] = []
        thread.start()
        (go / "go").touch()
        assert map_parts(partial(slowly, go), range(3), on(one), "test") == [0, 1, 2]
        thread.join()
        monkeypatch.setattr(cluster, "NO_WORKER_S", 0.3)
        one.workers[-1].kill()
        one.workers[-1].wait()
        with pytest.raises(UserError, match=r"^tcp://127.0.0.1:\d+: no worker for 0 s; start workers and run again"):
            map_parts(worker_of, [1], on(one), "test")


def test_a_scheduler_that_dies_is_told_in_one_line(tmp_path: Path) -> None:
    told = r"^tcp://127.0.0.1:\d+: the scheduler is gone; what is finished is kept"
    with (
        running(tmp_path / "dying", num_workers=1) as dying,
        killing_when(tmp_path, "started-*", dying.scheduler.pid),
        pytest.raises(UserError, match=told),
    ):
        map_parts(partial(waits_for, tmp_path), [1, 2], on(dying), "test")


def test_parts_that_gain_by_it_go_to_the_workers_with_a_gpu(two: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert device_of_parts(on(two), "test") == "cpu"
    assert capsys.readouterr().err == "test: on CPUs: no worker declares the resource GPU\n"
    gpu = two.add_worker("--resources", "GPU=1")
    wait_for_workers(two, len(two.workers))
    assert device_of_parts(on(two), "test") == "cuda"
    assert capsys.readouterr().err == "test: on cuda of 1 of 3 workers, those with the resource GPU\n"
    assert device_of_parts(Resources(scheduler=two.address, on_cpus=True), "test") == "cpu"
    assert capsys.readouterr().err == "test: on CPUs: --device cpu\n"
    results = map_parts(worker_of, range(4), on(two), "test", on_gpu=True)
    assert {pid for _, pid in results} == {gpu.pid}
    gpu.kill()
    gpu.wait()


@pytest.mark.parametrize(("on_gpu", "who"), [(True, "no worker with the resource GPU"), (False, "no worker")])
def test_nobody_who_could_work_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], on_gpu: bool, who: str
) -> None:
    monkeypatch.setattr(cluster, "LOOK_AGAIN_S", 0.1)
    monkeypatch.setattr(cluster, "NO_WORKER_S", 0.3)
    with running(tmp_path / "cluster", num_workers=int(on_gpu)) as found:
        with pytest.raises(UserError, match=rf"^{found.address}: {who} for 0 s; start workers and run again"):
            map_parts(worker_of, [1], on(found), "test", on_gpu=on_gpu)
        assert capsys.readouterr().err == f"test: {who} at {found.address}; waiting for one\n"


@pytest.mark.parametrize(
    ("able", "everyone", "told"),
    [(1, 1, "on cuda of 1 worker"), (3, 3, "on cuda of 3 workers"), (1, 3, "on cuda of 1 of 3 workers, those with ")],
)
def test_who_has_a_gpu_in_words(able: int, everyone: int, told: str) -> None:
    assert cluster.gpu_workers_text(able, everyone).startswith(told)


def test_an_address_where_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)
    for address in ("tcp://127.0.0.1:1", "nonsense", "spam://a:1"):
        with pytest.raises(ConfigError, match=rf"^{address}: no scheduler answers there \(.+\); start one with"):
            map_parts(worker_of, [1], Resources(scheduler=address), "test")


def test_a_worker_that_joins_later_with_other_code_is_named(two: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    own = software() | {"lima": "0123456789ab"}
    monkeypatch.setattr(cluster, "software", lambda: own)
    told = rf"^worker tcp://127\.0\.0\.1:\d+: has lima's code {software()['lima']}, this process 0123456789ab; install"
    with pytest.raises(ConfigError, match=told):
        map_parts(worker_of, range(3), on(two), "test")
