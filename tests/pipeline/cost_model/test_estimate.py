import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from lima_core.cost import Cost, Scale, SceneScale
from lima_core.datasets.folder import FolderConfig
from lima_core.errors import DataError
from lima_core.storage import Location, location
from lima_core.types import Resources
from pipeline import manifest, places
from pipeline import plan_text as texts
from pipeline.cost_model.estimate import EARLIER, OTHER, RULE, estimates, total
from pipeline.node import Node
from pipeline.plan_text import plan_text, require_room, total_text
from pipeline.planning import Step, plan
from pipeline.runner import run
from stages import index

SCALE = Scale((SceneScale(train=10), SceneScale(val=10)), num_cameras=6, num_points=1000, image_size_px=(90, 160))


@pytest.fixture
def estimating(toys: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The first toy says how much data it makes and what that costs."""

    def scale(config: object) -> Scale:
        return Scale((SceneScale(train=1),) * config.scenes, num_cameras=6, num_points=1000, image_size_px=(90, 160))

    def estimate(config: object, scale: Scale, resources: Resources) -> Cost:
        return Cost(disk_bytes=1000 * scale.num_frames, memory_bytes=10, seconds=100.0 * scale.num_frames)

    monkeypatch.setattr(toys.make, "scale", scale, raising=False)
    monkeypatch.setattr(toys.make, "estimate", estimate, raising=False)
    return toys


def test_a_stage_is_asked_with_the_scale_of_the_data(tmp_path: Path, estimating: SimpleNamespace) -> None:
    (cost,) = estimates(plan([estimating.numbers(scenes=7)], tmp_path), tmp_path, Resources())
    assert cost == Cost(7000, 10, 700.0, source=RULE)


def test_a_stage_is_asked_with_what_comes_to_it(
    tmp_path: Path, estimating: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reaching(scale: Scale, reads: dict) -> Scale:
        return replace(scale, channels=reads["numbers"].scenes)

    def estimate(config: object, scale: Scale, resources: Resources) -> Cost:
        return Cost(scale.channels)

    monkeypatch.setattr(estimating.add, "reaching", reaching, raising=False)
    monkeypatch.setattr(estimating.add, "estimate", estimate, raising=False)
    steps = plan([estimating.total(estimating.numbers(scenes=7))], tmp_path)
    assert estimates(steps, tmp_path, Resources())[-1].disk_bytes == 7


def test_what_another_size_took_before_is_scaled(tmp_path: Path, estimating: SimpleNamespace) -> None:
    small = estimating.numbers(scenes=2)
    run([small], tmp_path, Resources())
    files = [path for path in small.path(tmp_path).rglob("*") if path.is_file()]
    used = sum(path.stat().st_size for path in files)
    (cost,) = estimates(plan([estimating.numbers(scenes=20)], tmp_path), tmp_path, Resources())
    assert cost.disk_bytes == pytest.approx(10 * used, abs=1)
    assert cost.seconds < 100.0
    assert cost.source == OTHER  # the toy has no brief: its size is part of its config


def test_what_a_cached_artifact_takes_is_not_counted(tmp_path: Path, estimating: SimpleNamespace) -> None:
    run([estimating.numbers()], tmp_path, Resources())
    assert estimates(plan([estimating.numbers()], tmp_path), tmp_path, Resources()) == [None]


def test_an_earlier_artifact_that_differs_in_size_only_counts_first(
    tmp_path: Path, estimating: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def brief(config: object, sample: object) -> object:
        return config.model_copy(update={"scenes": 1})

    monkeypatch.setattr(estimating.make, "brief", brief, raising=False)
    run([estimating.numbers(scenes=2), estimating.numbers(scenes=2, factor=5.0)], tmp_path, Resources())
    (cost,) = estimates(plan([estimating.numbers(scenes=20)], tmp_path), tmp_path, Resources())
    assert cost.source == EARLIER


def test_an_artifact_of_another_machine_tells_no_time(tmp_path: Path, estimating: SimpleNamespace) -> None:
    run([estimating.numbers(scenes=2)], tmp_path, Resources(engine="elsewhere"))
    (cost,) = estimates(plan([estimating.numbers(scenes=20)], tmp_path), tmp_path, Resources())
    assert cost.source == RULE


def test_an_earlier_artifact_says_nothing_of_data_that_nobody_has_counted(
    tmp_path: Path, estimating: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run([estimating.numbers(scenes=2)], tmp_path, Resources())
    monkeypatch.delattr(estimating.make, "scale")
    assert estimates(plan([estimating.numbers(scenes=20)], tmp_path), tmp_path, Resources()) == [None]


def test_what_a_cluster_took_is_not_what_this_machine_takes(tmp_path: Path, estimating: SimpleNamespace) -> None:
    run([estimating.numbers(scenes=2)], tmp_path, Resources(scheduler="tcp://elsewhere:8786"))
    (cost,) = estimates(plan([estimating.numbers(scenes=20)], tmp_path), tmp_path, Resources())
    assert cost.source == RULE


@pytest.mark.parametrize(("engine", "known"), [("native", True), ("elsewhere", False)])
def test_a_stage_without_a_rule_takes_what_it_took_on_this_machine(
    tmp_path: Path, toys: SimpleNamespace, engine: str, known: bool
) -> None:
    run([toys.numbers(scenes=2)], tmp_path, Resources(engine=engine))
    (cost,) = estimates(plan([toys.numbers(scenes=20)], tmp_path), tmp_path, Resources(engine="native"))
    assert (cost is not None) == known


def test_without_a_scale_the_plan_says_after_index_where_there_will_be_one(
    tmp_path: Path, toys: SimpleNamespace
) -> None:
    frames = Node("index", index, index.Config(dataset=FolderConfig()), {})
    text = plan_text([Step(frames, "build", "new"), *plan([toys.numbers()], tmp_path)], [None, None], tmp_path)
    assert all("build  after index" in line for line in text.splitlines()[1:3])
    steps = plan([toys.numbers()], tmp_path)
    text = plan_text(steps, estimates(steps, tmp_path, Resources()), tmp_path)
    assert "build  not known" in text.splitlines()[1]
    assert text.endswith("; 1 of them not counted, their cost is not known yet")


def test_a_total_sums_disk_and_time_and_takes_the_largest_memory() -> None:
    costs = [Cost(1, 5, 1.0, passing_bytes=7), None, Cost(2, 3, None, passing_bytes=4)]
    assert total(costs) == Cost(3, 5, 1.0, passing_bytes=7)


def test_of_several_at_a_time_the_largest_meet() -> None:
    costs = [Cost(1, 5, 1.0, passing_bytes=7), Cost(1, 9, 1.0, passing_bytes=1), None, Cost(1, 3, 1.0, passing_bytes=4)]
    assert total(costs, jobs=2) == Cost(3, 14, 1.5, passing_bytes=11)
    assert total([*costs, Cost(1, 0, 8.0)], jobs=2).seconds == 8.0, "no sooner than the longest"


def test_resume_states_of_all_jobs_need_room(
    tmp_path: Path, toys: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = plan([toys.numbers(factor=1.0), toys.numbers(factor=2.0)], tmp_path)
    monkeypatch.setattr(texts, "free_bytes", lambda path: 2100)
    require_room(steps, [Cost(1000, 1, 1.0, passing_bytes=50)] * 2, tmp_path, jobs=1)
    with pytest.raises(DataError, match=r"2.14 kB are needed"):
        require_room(steps, [Cost(1000, 1, 1.0, passing_bytes=50)] * 2, tmp_path, jobs=2)


@pytest.fixture
def one_step(tmp_path: Path, toys: SimpleNamespace) -> tuple[list[Step], Path]:
    return plan([toys.numbers()], tmp_path), tmp_path


def test_a_plan_that_fits_exactly_is_allowed_and_a_byte_more_is_not(
    one_step: tuple[list[Step], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, work = one_step
    needed = 1020 + 50  # 2 % more than the artifact, and the resume state
    cost = Cost(1000, 1, 1.0, passing_bytes=50)
    monkeypatch.setattr(texts, "free_bytes", lambda path: needed)
    require_room(steps, [cost], work)
    monkeypatch.setattr(texts, "free_bytes", lambda path: needed - 1)
    with pytest.raises(DataError, match=r"1.07 kB are needed and 1.07 kB free; most for numbers 1 kB; .*--force"):
        require_room(steps, [cost], work)


def test_artifacts_that_share_a_name_need_room_each(
    tmp_path: Path, toys: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = plan([toys.numbers(factor=1.0), toys.numbers(factor=2.0)], tmp_path)
    monkeypatch.setattr(texts, "free_bytes", lambda path: 1500)
    with pytest.raises(DataError, match=r"2.04 kB are needed"):
        require_room(steps, [Cost(1000, 1, 1.0)] * 2, tmp_path)


def test_what_a_stopped_run_has_written_needs_no_room(
    one_step: tuple[list[Step], Path], toys: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, work = one_step
    partial = toys.numbers().partial_path(work)
    partial.mkdir()
    (partial / "half").write_bytes(bytes(600))
    (partial / "resume").mkdir()
    (partial / "resume" / "state").write_bytes(bytes(100))
    monkeypatch.setattr(texts, "free_bytes", lambda path: 510)
    steps, costs = plan([toys.numbers()], work), [Cost(1000, 1, 1.0, passing_bytes=200)]
    require_room(steps, costs, work)
    assert ": 400 B disk and 100 B while training (" in total_text(steps, costs, work)


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    """An object storage of this process; little is free on the disk that goes with it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(texts, "free_bytes", lambda path: 1500)
    return location(f"memory://bucket/{tmp_path.name}")


def test_an_object_storage_is_never_full_and_that_is_said(storage: Location, toys: SimpleNamespace) -> None:
    steps = plan([toys.parts()], storage)
    require_room(steps, [Cost(10**18, 1, 1.0)], storage)
    assert "1e+06 TB disk (free space not known)" in total_text(steps, [Cost(10**18, 1, 1.0)], storage)


def test_what_is_built_here_to_lie_on_a_storage_needs_room_here(
    storage: Location, toys: SimpleNamespace, tmp_path: Path
) -> None:
    steps = plan([toys.parts(toys.numbers())], storage)
    require_room(steps, [Cost(1000, 1, 1.0)] * 2, storage)
    with pytest.raises(DataError, match=rf"{tmp_path}.*2.04 kB are needed.*most for numbers 2 kB; .*XDG_CACHE_HOME"):
        require_room(steps, [Cost(2000, 1, 1.0)] * 2, storage)


def test_what_has_to_be_fetched_first_needs_room(storage: Location, toys: SimpleNamespace) -> None:
    numbers = toys.numbers()
    (made,) = run([numbers], storage, Resources())
    steps = plan([toys.total(numbers)], storage)
    fetched = round(1.02 * manifest.read(made).num_bytes)
    require_room(steps, [None, Cost(0, 1, 1.0, passing_bytes=1500)], storage)  # the copy is still here
    shutil.rmtree(numbers.path(places.here(storage)))
    require_room(steps, [None, Cost(0, 1, 1.0, passing_bytes=1500 - fetched)], storage)
    with pytest.raises(DataError, match="most for numbers"):
        require_room(steps, [None, Cost(0, 1, 1.0, passing_bytes=1501 - fetched)], storage)
