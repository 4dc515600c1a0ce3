"""Arms, grids, sharing by fingerprint, and the lines that a mistake in the file gives; on the real flow, unbuilt."""

import json
from pathlib import Path

import pytest

from lima_core.errors import ConfigError
from lima_core.types import Resources
from pipeline import ablation, graph
from pipeline.ablation import RANDOM, Study, combinations, sharing_text
from pipeline.config import load as load_config
from pipeline.cost_model.estimate import estimates
from pipeline.planning import plan
from stages import ablation as stage

EXPERIMENT = {
    "name": "base",
    "index": {"dataset": {"name": "nuscenes", "version": "v1.0-mini"}},
    "downstream": [{"probe": True}, {"ratio": 0.01}],
}
BASE = {"distill.method.frames": 1, "distill.method.cross_view": "first"}


@pytest.fixture
def study(tmp_path: Path) -> object:
    """Writes experiment and ablation, and builds the nodes."""

    def call(*overrides: str, **fields: object) -> Study:
        (tmp_path / "base.yaml").write_text(json.dumps(EXPERIMENT))
        told = {"name": "toy", "experiment": "base.yaml"} | fields
        path = tmp_path / "ablation.yaml"
        path.write_text(json.dumps({key: value for key, value in told.items() if value is not None}))
        return ablation.study(graph, stage, path, overrides, None)

    return call


def test_what_arms_have_in_common_is_one_node(study: object) -> None:
    found = study(arms={"base": BASE, "+ all": {}}, seeds=[0, 1])
    targets = ablation.topological(found.targets)
    kinds = [node.kind for node in targets]
    # World, index, features, bank; per seed: random probe and fine-tuning once, pre-trained ones once per arm.
    assert [kinds.count(kind) for kind in ("synth", "index", "extract-features", "build-memory")] == [1] * 4
    assert kinds.count("distill") == 2 * 2 and kinds.count("finetune") == kinds.count("evaluate") == 2 * (2 + 2 * 2)
    assert kinds[-1] == "ablation" and kinds.count("ablation") == 1 and kinds.count("report") == 0
    assert sharing_text(found) == "2 arms x 2 seeds: 32 artifacts, 44 if nothing were shared"


def test_an_arm_is_the_same_artifact_as_in_a_run_of_its_own(study: object) -> None:
    found = study(arms={"+ all": {}, "base": BASE}, seeds=[5])
    own = graph.build(graph.Experiment.model_validate_json(json.dumps(EXPERIMENT | {"seeds": [5]})))
    (node,) = [node for node in own if node.kind == "distill"]
    assert node.fingerprint in {target.fingerprint for target in found.nodes(5)}


def test_of_a_world_to_be_made_every_artifact_of_every_arm_is_told(study: object, tmp_path: Path) -> None:
    steps = plan(study(arms={"base": BASE, "+ all": {}}, seeds=[0, 1]).targets, tmp_path / "work")
    costs = estimates(steps, tmp_path / "work", Resources())
    assert len(costs) == 33 and all(cost and cost.disk_bytes for cost in costs)


def test_seeds_come_one_after_the_other(study: object) -> None:
    found = study(arms={"base": BASE, "+ all": {}}, seeds=[3, 1])
    order = [node.config.seed for node in ablation.topological(found.targets) if node.kind == "distill"]
    assert order == [3, 3, 1, 1]


def test_the_comparison_over_some_seeds(study: object) -> None:
    whole = study(arms={"base": BASE})
    assert whole.seeds == [0, 1, 2]
    assert set(whole.result([1]).inputs["distills"]) == {"distill-seed1 · base"}


def test_the_bank_is_not_shared_where_an_arm_changes_it(study: object) -> None:
    found = study(arms={"coarse": {"build_memory.voxel_size_m": 0.4}, "fine": {}}, seeds=[0])
    assert [node.kind for node in ablation.topological(found.targets)].count("build-memory") == 2
    assert set(found.result([0]).inputs["banks"]) == {"coarse", "fine"}


def test_random_starts_are_named_by_their_arm_where_arms_change_the_network(study: object) -> None:
    assert study(arms={"base": BASE, "+ all": {}}).config.starts == (RANDOM,)
    found = study(arms={"base": BASE, "wide": {"distill.backbone.stem": 48}, "both": BASE}, seeds=[0])
    assert found.config.starts == (f"{RANDOM} (base)", f"{RANDOM} (wide)")


@pytest.mark.parametrize("told", [{"reference": RANDOM}, {"compare": [["base", RANDOM]]}])
def test_one_random_start_cannot_be_meant_where_there_are_several(study: object, told: dict) -> None:
    assert study(arms={"base": BASE, "+ all": {}}, **told).config.starts == (RANDOM,)
    with pytest.raises(ConfigError, match=r"no one 'random start' here: arms that train differently"):
        study(arms={"base": BASE, "wide": {"distill.backbone.stem": 48}}, **told)
    with pytest.raises(ConfigError, match=r"ablation.yaml: there is no one 'random start' here: nothing is trained"):
        study("downstream=[]", arms={"base": BASE}, **told)


def test_what_only_some_arms_read_is_marked_with_them(study: object) -> None:
    found = study(arms={"base": BASE, "+ all": {}, "small": {"extract_features.image_size_px": [112, 196]}}, seeds=[0])
    marks, nodes = found.arms_of(), ablation.topological(found.targets)
    features = [marks.get(node.fingerprint) for node in nodes if node.kind == "extract-features"]
    assert features == ["base, + all", "small"]
    assert not [node.kind for node in nodes if node.kind in ("synth", "index") and node.fingerprint in marks]


def test_equal_arms_are_named(study: object) -> None:
    assert sharing_text(study(arms={"a": BASE, "b": {}, "c": BASE})).splitlines()[1].endswith("several names: a, c")


def test_set_goes_to_the_experiment_and_arms_win(study: object) -> None:
    found = study("distill.fit.epochs=7", "distill.method.frames=2", arms={"base": BASE}, seeds=[0])
    (config,) = [node.config for node in found.nodes(0) if node.kind == "distill"]
    assert (config.fit.epochs, config.method.frames) == (7, 1)


def test_grid_is_the_product_with_short_names() -> None:
    grid = {"build_memory.voxel_size_m": [0.1, 0.2], "distill.method.cross_view": ["mean", "first"]}
    assert [name for name, _ in combinations(grid)] == [
        "voxel_size_m=0.1 cross_view=mean", "voxel_size_m=0.1 cross_view=first",
        "voxel_size_m=0.2 cross_view=mean", "voxel_size_m=0.2 cross_view=first",
    ]  # fmt: skip
    ((name, sets),) = combinations({"build_memory.frames": [6], "distill.method.frames": [1]})
    assert name == "build_memory.frames=6 method.frames=1"
    assert sets == {"build_memory.frames": 6, "distill.method.frames": 1}
    ((name, _),) = combinations({"method.frames": [6], "distill.method.frames": [1]})
    assert name == "method.frames=6 distill.method.frames=1"


def test_a_grid_follows_the_arms_and_the_first_is_the_reference(study: object) -> None:
    found = study(arms={"base": BASE}, grid={"distill.method.frames": [2, 3]}, seeds=[0])
    assert [arm.name for arm in found.config.arms] == ["base", "frames=2", "frames=3"]
    assert found.config.reference == "base" and found.config.arms[2].sets == ("distill.method.frames=3",)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"arms": {"x y": {"distill.method.frame": 1}}}, "arm 'x y': distill.method.frame: unknown key; did you mean"),
        ({"arms": {"x": {"distill.method.frames": "six"}}}, "arm 'x': distill.method.frames: expected a valid integer"),
        ({"arms": {"x": {"distill.method.frames": 9}}}, "arm 'x': distill.method.frames 9 is above build_memory.fram"),
        ({"arms": {"x": {"downstream.7.ratio": 0.1}}}, "arm 'x': downstream.7: no such entry; entries are 0 to 1"),
        ({"arms": {"x": {"seeds": [1]}}}, "arm 'x': seeds is set by the ablation; set its seeds, or give --seed"),
        ({"arms": {"base": {}}, "reference": "bose"}, "'bose' is no arm; did you mean 'base'? known: base"),
        ({"arms": {"base": {}}, "compare": [["base", "b"]]}, "'b' is no arm; did you mean 'base'?"),
        ({"arms": {"base": {}}, "seeds": [1, 1]}, "seed 1 is given twice; remove one"),
        ({"arms": {"base": {}}, "seeds": []}, "seeds: expected"),
        ({"arms": {RANDOM: {}}}, "an arm cannot be called 'random start'"),
        ({"arms": {"frames=2": {}}, "grid": {"distill.method.frames": [2]}}, "arm 'frames=2' is given twice"),
        ({"grid": {"distill.method.frames": []}}, "grid.distill.method.frames: no value; list the values to try"),
        ({"arms": {}}, "there is no arm; write arms: or grid:"),
        ({"arm": {}}, "arm: unknown key; did you mean 'arms'?"),
        ({"arms": {"base": {}}, "experiment": None}, "experiment: missing; this key is required"),
    ],
)
def test_a_mistake_is_one_line_that_says_where(study: object, fields: dict, line: str) -> None:
    with pytest.raises(ConfigError) as raised:
        study(**fields)
    (text,) = str(raised.value).splitlines()
    assert "ablation.yaml: " + line in text


def test_other_mistakes_name_their_flag_or_file(study: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--set: seeds is set by the ablation"):
        study("seeds=[1]", arms={"base": {}})
    with pytest.raises(ConfigError, match=r"absent.yaml: cannot be read"):
        study(arms={"base": {}}, experiment="absent.yaml")


def test_a_seed_that_is_not_the_ablations(tmp_path: Path, study: object) -> None:
    study(arms={"base": {}})
    assert ablation.study(graph, stage, tmp_path / "ablation.yaml", [], [2, 0]).seeds == [0, 2]
    with pytest.raises(ConfigError, match=r"--seed: 9 is no seed of this ablation; it has 0, 1, 2"):
        ablation.study(graph, stage, tmp_path / "ablation.yaml", [], [9])


def test_a_drive_of_ones_own_can_be_ablated() -> None:
    arms = ablation.arm_sets(ablation.load(Path(__file__).parents[2] / "configs" / "pandaset-ablation.yaml"))
    assert list(arms)[-1] == "6 frames, gates" and arms["6 frames, gates"] == ()
    base = Path(__file__).parents[2] / "configs" / "pandaset.yaml"
    for sets in arms.values():
        assert load_config(base, graph.Experiment, sets).distill.method.frames in (1, None)


def test_the_example_of_the_repository_is_sound() -> None:
    path = Path(__file__).parents[2] / "configs" / "ablation.yaml"
    found = ablation.study(graph, stage, path, [], None)
    assert found.config.reference == "base" and len(found.seeds) == 3
    assert "several names" not in sharing_text(found)
