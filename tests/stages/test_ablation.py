"""ablation: what is read from artifacts, and the sentences on what is odd; the whole stage runs in test_ablate."""

from pathlib import Path

import pytest

from lima_core.errors import StoreError
from lima_core.whole import write_json
from stages import ablation
from stages.ablation import Arm, Config, Inputs

CONFIG = Config(title="Toy", arms=(Arm(name="a · b"), Arm(name="c")), reference="c")


def artifact(path: Path, stage: str, seed: int, seconds: float, threads: int = 1, resumed: bool = False) -> Path:
    """A folder with no more than a manifest."""
    trained = {"training": {"seed": seed}} if stage == "evaluate" else {}
    origin = {"cpu": "toy cpu", "gpu": None, "num_threads": threads, "resources": {"engine": "native"}}
    recipe = {"stage": stage, "config": {} if stage == "evaluate" else {"seed": seed}}
    record = {"name": stage, "recipe": recipe, "summary": trained, "provenance": origin}
    write_json(path / "manifest.json", record | {"seconds": seconds, "resumed": resumed})
    return path


def inputs(root: Path, **second: object) -> Inputs:
    """Two arms; the second's distillation is given."""
    distills = {
        "distill-seed0 · a · b": artifact(root / "d1", "distill", 0, 10.0),
        "distill-seed0 · c": artifact(root / "d2", "distill", 0, **{"seconds": 5.0} | second),
    }
    trained = {"probe-seed0 · a · b": artifact(root / "f", "finetune", 0, 2.0)}
    return Inputs({}, {}, distills, trained, {"evaluate-seed0 · a · b": artifact(root / "e", "evaluate", 0, 0.5)})


def test_labels_hold_any_arm() -> None:
    assert ablation.arm_of(ablation.label("distill-seed0", "a · b")) == "a · b"


def test_seconds_of_an_arm_are_those_of_its_trainings_and_scores(tmp_path: Path) -> None:
    assert ablation.seconds(inputs(tmp_path)) == {"a · b": {0: 12.5}, "c": {0: 5.0}}


def test_nothing_odd_is_nothing_said(tmp_path: Path) -> None:
    assert ablation.all_notes(CONFIG, inputs(tmp_path), ablation.Outcome([], [], "c")) == []


def test_other_threads_and_resumed_trainings_are_said(tmp_path: Path) -> None:
    odd = inputs(tmp_path, threads=2, resumed=True)
    ways, resumed = ablation.all_notes(CONFIG, odd, ablation.Outcome([], [], "c"))
    assert "toy cpu, engine native, 1 thread; toy cpu, engine native, 2 threads" in ways
    assert resumed.startswith("1 of 3 trainings were resumed")


def test_arms_of_the_same_artifacts_are_said(tmp_path: Path) -> None:
    found = inputs(tmp_path)
    same = Inputs({}, {}, {text: tmp_path / "d1" for text in found.distills}, {}, {})
    assert ablation.same_arms(CONFIG, same) == ["a · b and c are the same arm: they share every artifact."]
    assert ablation.same_arms(CONFIG, found) == []


def test_an_artifact_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no manifest.json, so window, loss and seconds are not known"):
        ablation.manifest(tmp_path)
