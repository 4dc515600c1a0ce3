"""The flow: which nodes an experiment has and what each of them reads."""

import json
import shutil
from pathlib import Path

import pytest

import stages
from lima_core.errors import CheckpointError, ConfigError, DataError
from pipeline.config import load, override
from pipeline.graph import STAGES, Experiment, build
from pipeline.node import Node, Source, stage_kind
from tests.lima_core.models.small_folders import student_folder

DEMO = Path(__file__).parents[2] / "configs" / "demo.yaml"
ABLATIONS = ("ablation.yaml", "pandaset-ablation.yaml", "precision-ablation.yaml")
"""Not experiments: tests/pipeline/test_ablation.py."""
CONFIGS = sorted(path for path in DEMO.parent.glob("*.yaml") if path.name not in ABLATIONS)


@pytest.fixture(scope="module")
def demo() -> Experiment:
    return load(DEMO, Experiment)


def by_name(experiment: Experiment, *overrides: str) -> dict[str, Node]:
    nodes = build(override(experiment, overrides))
    assert len({node.name for node in nodes}) == len(nodes)
    return {node.name: node for node in nodes}


def changed(experiment: Experiment, *overrides: str) -> set[str]:
    """Names of the nodes whose fingerprint an override changes."""
    before, after = by_name(experiment), by_name(experiment, *overrides)
    return {name for name in before if before[name].fingerprint != after[name].fingerprint}


def test_the_flow_reads_as_drawn(demo: Experiment) -> None:
    nodes = by_name(demo, "downstream=[{probe: true}, {ratio: 0.01, inits: [pretrained]}]", "seeds=[3]")
    reads = {
        name: {field: read.name for field, read in n.inputs.items() if isinstance(read, Node)}
        for name, n in nodes.items()
    }
    data = {"raw": "synth", "index": "index"}
    assert reads == {
        "synth": {},
        "index": {"raw": "synth"},
        "extract-features": data,
        "build-memory": data,
        "distill-seed3": data | {"extract_features": "extract-features", "build_memory": "build-memory"},
        "probe-100pct-random-seed3": data,
        "probe-100pct-pretrained-seed3": data | {"checkpoint": "distill-seed3"},
        "finetune-1pct-pretrained-seed3": data | {"checkpoint": "distill-seed3"},
        "evaluate-probe-100pct-random-seed3": data | {"finetune": "probe-100pct-random-seed3"},
        "evaluate-probe-100pct-pretrained-seed3": data | {"finetune": "probe-100pct-pretrained-seed3"},
        "evaluate-finetune-1pct-pretrained-seed3": data | {"finetune": "finetune-1pct-pretrained-seed3"},
        "report": data | {"extract_features": "extract-features", "build_memory": "build-memory"},
    }
    assert set(nodes["report"].inputs["evaluations"]) == {name for name in nodes if name.startswith("evaluate")}
    assert {node.kind for node in nodes.values()} == set(STAGES) - {"materialize"}


def test_with_materialised_targets_the_student_reads_nothing_else(demo: Experiment) -> None:
    nodes = by_name(demo, "materialize={}")
    assert {node.kind for node in nodes.values()} == set(STAGES)
    caches = {"extract_features": nodes["extract-features"], "build_memory": nodes["build-memory"]}
    assert nodes["materialize"].inputs == caches
    data = {"raw": nodes["synth"], "index": nodes["index"]}
    assert nodes["distill-seed0"].inputs == data | {"materialize": nodes["materialize"]}
    assert nodes["report"].inputs.items() >= (data | caches | {"materialize": nodes["materialize"]}).items()
    for name in ("extract-features", "build-memory", "probe-100pct-random-seed0"):
        assert nodes[name].fingerprint == by_name(demo)[name].fingerprint
    assert nodes["distill-seed0"].fingerprint != by_name(demo)["distill-seed0"].fingerprint


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["materialize.frames=7"], "materialize.frames 7 is above build_memory.frames 6"),
        (["materialize={}", "distill.method.frames=3"], "distill.method.frames 3, but targets of 6 frames are mat"),
        (
            ["materialize={}", "distill.method.cross_view=first"],
            "distill.method.cross_view first, materialize.cross_view mean",
        ),
    ],
)
def test_targets_that_the_method_does_not_want_are_refused(
    demo: Experiment, overrides: list[str], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        override(demo, overrides)


def test_every_input_is_one_that_its_stage_reads(demo: Experiment) -> None:
    for node in build(demo):
        assert set(node.inputs) <= set(node.stage.Inputs.__dataclass_fields__)


def test_stage_names_are_those_of_the_files() -> None:
    files = {path.stem.replace("_", "-") for path in Path(stages.__file__).parent.glob("[a-z]*.py")}
    assert set(STAGES) == files - {"ablation"}  # it reads whole experiments, and is in none
    assert stage_kind(stages.build_memory) == "build-memory"


def test_a_change_rebuilds_what_is_downstream_of_it_and_nothing_else(demo: Experiment) -> None:
    every = set(by_name(demo))
    taught = {name for name in every if "pretrained" in name} | {"distill-seed0", "report"}
    assert changed(demo, "synth.world.seed=1") == every
    assert changed(demo, "build_memory.frames=4") == taught | {"build-memory"}
    assert changed(demo, "extract_features.codec=float16") == taught | {"extract-features"}
    assert changed(demo, "report.title=other") == {"report"}
    assert changed(demo, "name=other") == set()


def test_every_start_gets_the_students_network(demo: Experiment) -> None:
    nodes = by_name(demo)
    for init in ("random", "pretrained"):
        config = nodes[f"probe-100pct-{init}-seed0"].config
        assert config.backbone == demo.distill.backbone
        assert config.voxels == demo.distill.voxels


def test_more_seeds_leave_the_first_ones_artifacts_alone(demo: Experiment) -> None:
    one, two = by_name(demo), by_name(demo, "seeds=[0, 1]")
    assert all(two[name].fingerprint == node.fingerprint for name, node in one.items() if name != "report")
    assert two["distill-seed1"].config.seed == 1
    assert two["probe-100pct-pretrained-seed1"].config.seed == 1


def test_what_the_flow_sets_is_not_set_twice(demo: Experiment) -> None:
    with pytest.raises(
        ConfigError, match=r"^--set: : distill\.seed is set by 'seeds'; set 'seeds' instead|^--set: distill"
    ):
        override(demo, ["distill.seed=1"])
    with pytest.raises(ConfigError, match="probe-100pct-random-seed0 is listed twice"):
        build(override(demo, ["downstream=[{probe: true}, {probe: true}]"]))


def test_recordings_enter_by_digest_not_by_path(demo: Experiment, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "v1.0-mini").mkdir(parents=True)
        (tmp_path / name / "v1.0-mini" / "scene.json").write_text("[]")
    here, there = (by_name(demo, f"data_root={tmp_path / name}")["index"] for name in ("a", "b"))
    assert isinstance(here.inputs["raw"], Source)
    assert here.fingerprint == there.fingerprint
    (tmp_path / "b" / "v1.0-mini" / "scene.json").write_text('[{"token": "x"}]')
    assert by_name(demo, f"data_root={tmp_path / 'b'}")["index"].fingerprint != here.fingerprint


def test_a_missing_data_root_is_one_line(demo: Experiment) -> None:
    with pytest.raises(DataError, match="/absent: no such folder; set the data root to where the data set lies"):
        build(override(demo, ["data_root=/absent"]))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_is_valid(path: Path) -> None:
    assert load(path, Experiment).name == path.stem


def teacher_in(folder: Path, content: bytes = b"weights") -> str:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(content)
    return f"extract_features.teacher={{name: huggingface, model: {folder}}}"


def test_a_teacher_in_a_local_folder_is_known_by_its_digest_and_not_by_its_path(
    demo: Experiment, tmp_path: Path
) -> None:
    here, moved = teacher_in(tmp_path / "here"), teacher_in(tmp_path / "elsewhere/other-name")
    changed_weights = teacher_in(tmp_path / "changed", b"WEIGHTS")
    nodes = [by_name(demo, text)["extract-features"] for text in (here, moved, changed_weights)]
    assert str(tmp_path) not in str(nodes[0].recipe)
    assert nodes[0].inputs["weights"].root == tmp_path / "here"
    assert nodes[0].fingerprint == nodes[1].fingerprint != nodes[2].fingerprint
    on_the_hub = by_name(demo, "extract_features.teacher={name: huggingface, model: facebook/dinov2-small}")
    assert "weights" not in on_the_hub["extract-features"].inputs


def test_a_checkpoint_from_elsewhere_takes_the_place_of_distilling(demo: Experiment, tmp_path: Path) -> None:
    student_folder(tmp_path / "a", stem_kernels=(3,))
    nodes = by_name(demo, f"checkpoint={tmp_path / 'a'}", "downstream=[{ratio: 0.5}]", "seeds=[0, 1]")
    assert {node.kind for node in nodes.values()} == set(STAGES) - {
        "extract-features", "build-memory", "materialize", "distill"
    }  # fmt: skip
    for seed in (0, 1):
        tuned = nodes[f"finetune-50pct-pretrained-seed{seed}"]
        assert tuned.inputs["checkpoint"].root == tmp_path / "a"
        random = nodes[f"finetune-50pct-random-seed{seed}"]
        for node in (tuned, random):  # the same network, from the folder's own description
            assert node.config.backbone.stem_kernels == (3,) and node.config.voxels.name == "cylindrical"


def test_of_a_checkpoint_the_weights_count_not_the_path(demo: Experiment, tmp_path: Path) -> None:
    student_folder(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    student_folder(tmp_path / "c", bn_eps=0.5)
    nodes = [by_name(demo, f"checkpoint={tmp_path / name}")["probe-100pct-pretrained-seed0"] for name in "abc"]
    prints = [node.fingerprint for node in nodes]
    assert prints[0] == prints[1] != prints[2]


def test_of_what_a_checkpoint_says_only_what_changes_numbers_counts(demo: Experiment, tmp_path: Path) -> None:
    prints = []
    said = {}, {"scores": [{"miou": 0.5}], "provenance": {"created": "today"}}, {"teacher": "another"}
    for fields in said:
        student_folder(tmp_path)
        file = tmp_path / "backbone" / "model.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))
        prints.append(by_name(demo, f"checkpoint={tmp_path}")["probe-100pct-pretrained-seed0"].fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_a_checkpoint_that_is_none_says_so(demo: Experiment, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        by_name(demo, f"checkpoint={tmp_path}")
    student_folder(tmp_path)
    (tmp_path / "backbone" / "weights.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: no such file"):
        by_name(demo, f"checkpoint={tmp_path}")
