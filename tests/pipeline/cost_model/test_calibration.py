import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from lima_core.cost import Cost, Sample, Scale, SceneScale
from lima_core.errors import BusyError, DataError
from lima_core.storage import is_file, location
from lima_core.types import Resources
from pipeline import lock
from pipeline.cost_model import calibration
from pipeline.cost_model.calibration import calibrate, kin
from pipeline.cost_model.estimate import MEASURED, estimates
from pipeline.node import Node, Source
from pipeline.planning import plan
from pipeline.runner import run


@pytest.fixture
def measurable(toys: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The first toy makes as many parts as its config says; its rule of thumb is wrong by far."""

    def scale(config: object) -> Scale:
        return Scale((SceneScale(train=1),) * config.scenes, num_cameras=6, num_points=1000, image_size_px=(90, 160))

    def estimate(config: object, scale: Scale, resources: Resources) -> Cost:
        return Cost(disk_bytes=10**6 * scale.num_frames, memory_bytes=10, seconds=1e4 * scale.num_frames)

    def brief(config: object, sample: Sample) -> object:
        return config.model_copy(update={"scenes": sample.scenes * sample.frames})

    for function in (scale, estimate, brief):
        monkeypatch.setattr(toys.make, function.__name__, function, raising=False)
    return toys


def measure(toys: SimpleNamespace, work: Path, **config: object) -> list[str]:
    """What a calibration of the first toy says."""
    said: list[str] = []
    calibrate(plan([toys.numbers(**config)], work), work, Resources(), said.append)
    return said


def used_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def test_the_plan_after_a_calibration_says_what_is_then_used(tmp_path: Path, measurable: SimpleNamespace) -> None:
    measure(measurable, tmp_path)
    node = measurable.numbers(scenes=300)
    (cost,) = estimates(plan([node], tmp_path), tmp_path, Resources())
    assert cost.source == MEASURED
    run([node], tmp_path, Resources())
    assert cost.disk_bytes == pytest.approx(used_bytes(node.path(tmp_path)), rel=0.15)
    assert cost.memory_bytes > 10**7  # of a real process, not the rule's 10 bytes


def test_the_state_of_a_training_is_no_part_of_what_it_leaves(
    tmp_path: Path, measurable: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = measurable.make.run

    def training(config: object, inputs: object, out: Path, resources: Resources) -> object:
        (out / "resume").mkdir(exist_ok=True)
        (out / "resume" / "state").write_bytes(bytes(10**6))
        return real(config, inputs, out, resources)

    monkeypatch.setattr(measurable.make, "run", training)
    measure(measurable, tmp_path)
    (cost,) = estimates(plan([measurable.numbers()], tmp_path), tmp_path, Resources())
    assert cost.source == MEASURED and cost.disk_bytes < 10**5


def test_only_the_record_stays(tmp_path: Path, measurable: SimpleNamespace) -> None:
    assert [line.split()[0] for line in measure(measurable, tmp_path)] == ["measured"]
    left = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in left if path.parts[0] != ".locks"] == [Path("calibration.json")]


def test_what_was_measured_is_not_measured_again_and_another_kin_is(
    tmp_path: Path, measurable: SimpleNamespace
) -> None:
    measure(measurable, tmp_path)
    assert measure(measurable, tmp_path, scenes=70)[0].startswith("nothing to measure")
    assert measure(measurable, tmp_path, factor=7.0)[0].startswith("measured")
    assert len(json.loads((tmp_path / "calibration.json").read_text())["records"]) == 2


def test_size_and_place_do_not_enter_the_key_and_config_does(measurable: SimpleNamespace) -> None:
    assert kin(measurable.numbers(scenes=3)) == kin(measurable.numbers(name="other", scenes=9))
    assert kin(measurable.numbers()) != kin(measurable.numbers(factor=3.0))


def test_another_machine_is_measured_anew(tmp_path: Path, measurable: SimpleNamespace) -> None:
    measure(measurable, tmp_path)
    elsewhere = Resources(engine="another")
    (cost,) = estimates(plan([measurable.numbers()], tmp_path), tmp_path, elsewhere)
    assert cost.source != MEASURED


def test_leftovers_of_a_killed_calibration_are_removed(tmp_path: Path, measurable: SimpleNamespace) -> None:
    left = tmp_path / ".calibration" / "large-numbers"
    left.mkdir(parents=True)
    (left / "scene-0.json").write_text("half")
    measure(measurable, tmp_path)
    assert not left.parent.exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is damaged"),
        ("[]", "is damaged"),
        ('{"schema": 2}', "is damaged"),
        ('{"schema": 99, "records": {}}', "is of version 99, not 2"),
        ('{"schema": 2, "records": {"x": 1}}', None),
    ],
)
def test_an_unreadable_record_counts_as_none_and_that_is_said(
    tmp_path: Path, measurable: SimpleNamespace, text: str, told: str | None
) -> None:
    (tmp_path / "calibration.json").write_text(text)
    *first, last = measure(measurable, tmp_path)
    assert last.startswith("measured")
    assert [f"calibration.json {told}" in line for line in first] == ([True] if told else [])
    assert estimates(plan([measurable.numbers()], tmp_path), tmp_path, Resources())[0].source == MEASURED


def test_a_stage_that_refuses_the_sample_is_named_and_the_rule_stays(
    tmp_path: Path, measurable: SimpleNamespace
) -> None:
    said = measure(measurable, tmp_path, fail=True)
    assert said == ["numbers: cannot be measured on a sample (toy: this toy was told to fail)"]


@pytest.mark.parametrize("root", ["", "memory://bucket"])
def test_two_calibrations_do_not_meet(tmp_path: Path, measurable: SimpleNamespace, root: str) -> None:
    work = location(f"{root}{tmp_path}")
    with lock.held(work / calibration.FOLDER, False, print), pytest.raises(BusyError, match="calibration"):
        measure(measurable, work)
    measure(measurable, work)
    assert is_file(work / "calibration.json")


def test_recordings_without_an_index_are_told(tmp_path: Path, measurable: SimpleNamespace) -> None:
    stage = SimpleNamespace(**vars(measurable.make))
    stage.__name__ = "stages.index"
    node = Node("index", stage, measurable.make.Config(), {"raw": Source(tmp_path, "digest")})
    with pytest.raises(DataError, match=r"no index yet.*lima stage index"):
        calibrate(plan([node], tmp_path), tmp_path, Resources(), print)
