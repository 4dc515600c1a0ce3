"""finetune: probe and full training, what a checkpoint must be, resume, and what is written."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from lima_core.errors import CheckpointError, ConfigError
from lima_core.geometry.voxels import CartesianGrid, CylindricalGrid
from lima_core.loading.limits import LimitsConfig
from lima_core.loading.subsets import SubsetConfig
from lima_core.models import build_backbone
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.stores.predictions import Predictions
from lima_core.training.checkpoint import read_meta, read_weights, save_weights
from lima_core.training.choice import SelectionConfig
from lima_core.training.config import KeepConfig
from lima_core.training.loop import FitConfig
from lima_core.training.optim import AdamWConfig
from lima_core.types import Resources
from stages import finetune
from stages.finetune import Config, Inputs

TINY = MinkUNetConfig(
    stem=4, encoder_widths=(4, 8), encoder_blocks=(1, 1), decoder_widths=(8, 8), decoder_blocks=(1, 1)
)
GRID = CartesianGrid(size_m=(0.8, 0.8, 0.4))
FIT = FitConfig(steps=4, batch_size=2, optimiser=AdamWConfig(lr=0.02))
RANDOM = Config(init="random", probe=True, backbone=TINY, voxels=GRID, fit=FIT, augment=None)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Nets this small lose more to waiting for a second thread than they win."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def inputs(labelled_world: Path, labelled_index: Path) -> Inputs:
    return Inputs(raw=labelled_world, index=labelled_index)


def changed(config: Config, **fields: Any) -> Config:
    return config.model_copy(update=fields)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Artifact of a distillation."""
    meta = {
        "kind": "backbone", "backbone": TINY.model_dump(mode="json"), "voxels": GRID.model_dump(mode="json"),
        "in_channels": 4, "method": "lima", "teacher": "test teacher", "intensity_max": 255.0,
    }  # fmt: skip
    save_weights(tmp_path / "distill" / "backbone", build_backbone(TINY, 4, seed=9), meta)
    return tmp_path / "distill"


def files(out: Path) -> dict[str, bytes]:
    """All data of an artifact; logs may hold times."""
    paths = [path for path in out.rglob("*") if path.is_file() and "logs" not in path.parts]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def test_probe_leaves_every_backbone_tensor_alone(inputs: Inputs, checkpoint: Path, tmp_path: Path) -> None:
    config = Config(probe=True, fit=FIT, augment=None)
    finetune.run(config, replace(inputs, checkpoint=checkpoint), tmp_path, Resources())
    before = read_weights(checkpoint / "backbone")
    after = read_weights(tmp_path / "model")
    assert any("running_var" in name for name in before)
    assert all(torch.equal(after[f"backbone.{name}"], tensor) for name, tensor in before.items())
    assert read_meta(tmp_path / "model")["training"]["method"] == "lima"


def test_full_training_moves_the_backbone_and_its_statistics(inputs: Inputs, checkpoint: Path, tmp_path: Path) -> None:
    finetune.run(Config(fit=FIT), replace(inputs, checkpoint=checkpoint), tmp_path, Resources(workers=2))
    before, after = read_weights(checkpoint / "backbone"), read_weights(tmp_path / "model")
    moved = [name for name, tensor in before.items() if not torch.equal(after[f"backbone.{name}"], tensor)]
    assert set(moved) == set(before)


def test_training_learns_what_is_easy(inputs: Inputs, tmp_path: Path) -> None:
    fit = FitConfig(steps=20, batch_size=3, optimiser=AdamWConfig(lr=0.03))
    result = finetune.run(changed(RANDOM, probe=False, fit=fit), inputs, tmp_path, Resources())
    assert result["last_loss"] < 0.6 * result["first_loss"]


@pytest.mark.parametrize("probe", [True, False])
def test_bounds_hold_in_training_and_never_in_prediction(inputs: Inputs, tmp_path: Path, probe: bool) -> None:
    config = changed(RANDOM, probe=probe, limits=LimitsConfig(max_points=300, max_voxels=50))
    finetune.run(config, inputs, tmp_path, Resources())
    dropped = pq.read_table(tmp_path / "curve.parquet")["dropped_points"].to_pylist()
    assert all(2 * 100 < number < 2 * 350 and number == int(number) for number in dropped)  # two scans of 400 points
    assert Predictions.open(tmp_path / "predictions").read("sdscene-0103-0").shape == (400,)


@pytest.mark.parametrize("seam", ["closed", "cut"])
def test_a_cylindrical_grid_trains_and_predicts(inputs: Inputs, tmp_path: Path, seam: str) -> None:
    grid = CylindricalGrid(size_m=0.5, size_deg=5.0, size_z_m=0.5, seam=seam)
    finetune.run(changed(RANDOM, probe=False, voxels=grid), inputs, tmp_path, Resources())
    assert read_meta(tmp_path / "model")["voxels"] == grid.model_dump(mode="json")
    assert Predictions.open(tmp_path / "predictions").read("sdscene-0103-0").shape == (400,)


def test_predictions_cover_every_point_of_the_validation_split(inputs: Inputs, tmp_path: Path) -> None:
    summary = finetune.run(RANDOM, inputs, tmp_path, Resources())
    predictions = Predictions.open(tmp_path / "predictions")
    names = sorted(path.name for path in (tmp_path / "predictions" / "lidarseg" / "mini_val").iterdir())
    assert names == [f"sdscene-0103-{i}_lidarseg.bin" for i in range(3)]
    assert predictions.read("sdscene-0103-0").shape == (400,)
    assert summary["predicted_frames"] == 3 and summary["train_frames"] == 6


def test_a_killed_run_continues_to_the_same_bytes(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = changed(RANDOM, probe=False)
    finetune.run(config, inputs, tmp_path / "whole", Resources())
    written = []

    def killed(self: Predictions, token: str, train_ids: np.ndarray) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(token)
        write(self, token, train_ids)

    write = Predictions.write
    monkeypatch.setattr(Predictions, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        finetune.run(config, inputs, tmp_path / "parts", Resources())
    monkeypatch.undo()
    finetune.run(config, inputs, tmp_path / "parts", Resources())
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_subset_is_described(inputs: Inputs, tmp_path: Path) -> None:
    summary = finetune.run(changed(RANDOM, subset=SubsetConfig(ratio=0.5)), inputs, tmp_path, Resources())
    training = read_meta(tmp_path / "model")["training"]
    assert training["num_frames"] == 3 and training["num_scenes"] == 1 and training["ratio"] == 0.5
    assert training["subset_hash"] == summary["subset_hash"] and training["protocol"] == "linear_probe"
    assert training["subset_rule"] == "every_nth_scene" and training["init"] == "random"


def rewrite_meta(checkpoint: Path, **fields: Any) -> None:
    path = checkpoint / "backbone" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_checkpoints_that_do_not_fit(inputs: Inputs, checkpoint: Path, tmp_path: Path) -> None:
    def run(**fields: Any) -> None:
        config = changed(Config(fit=FIT), **fields)
        finetune.run(config, replace(inputs, checkpoint=checkpoint), tmp_path / "out", Resources())

    other = TINY.model_copy(update={"stem": 6})
    with pytest.raises(CheckpointError, match="another backbone: stem is 4, the config says 6"):
        run(backbone=other)
    with pytest.raises(CheckpointError, match="another voxels: size_m is"):
        run(voxels=CartesianGrid())
    rewrite_meta(checkpoint, in_channels=1)
    with pytest.raises(CheckpointError, match="takes 1 input channels, not 4"):
        run()
    rewrite_meta(checkpoint, in_channels=4, backbone=other.model_dump(mode="json"))
    with pytest.raises(CheckpointError, match=r"weights of another architecture: .*shortcut.* is missing"):
        run()
    rewrite_meta(checkpoint, kind="segmentation")
    with pytest.raises(CheckpointError, match="holds a 'segmentation', not a 'backbone'"):
        run()


def test_init_and_checkpoint_must_agree(inputs: Inputs, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="init 'pretrained' without a checkpoint"):
        finetune.run(Config(), inputs, tmp_path, Resources())
    with pytest.raises(ConfigError, match="init 'random' with a checkpoint"):
        finetune.run(RANDOM, replace(inputs, checkpoint=checkpoint), tmp_path, Resources())
    with pytest.raises(ConfigError, match="needs the configs backbone and voxels"):
        finetune.run(Config(init="random"), inputs, tmp_path, Resources())


def test_random_start_is_a_function_of_the_seed(inputs: Inputs, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        finetune.run(changed(RANDOM, seed=seed), inputs, tmp_path / name, Resources())
    weights = {name: files(tmp_path / name)["model/weights.safetensors"] for name in "abc"}
    assert weights["a"] == weights["b"] != weights["c"]


def test_the_best_epoch_is_chosen_on_training_scenes_that_are_held_out(inputs: Inputs, tmp_path: Path) -> None:
    selection = SelectionConfig(rule="best", heldout=0.5, every=2)
    fit = FitConfig(epochs=6, batch_size=3, optimiser=AdamWConfig(lr=0.03), checkpoints=KeepConfig(every_epochs=3))
    config = changed(RANDOM, probe=False, fit=fit, selection=selection, layer_decay=0.9)
    summary = finetune.run(config, inputs, tmp_path, Resources())
    said = read_meta(tmp_path / "model")["selection"]
    assert summary["selection"] | {"chosen_step": said["chosen_step"], "chosen_epoch": said["chosen_epoch"]} == said
    assert said["rule"] == "best" and said["heldout_scenes"] == 1 and said["heldout_frames"] == 3
    assert len(said["heldout_hash"]) == 16 and summary["num_samples"] == 3
    training = read_meta(tmp_path / "model")["training"]
    assert (
        (training["num_scenes"], training["num_frames"]) == (summary["train_scenes"], summary["train_frames"]) == (1, 3)
    )
    curve = pq.read_table(tmp_path / "curve.parquet", columns=["step", "heldout_miou"]).to_pydict()
    looked = {step: miou for step, miou in zip(*curve.values(), strict=True) if not math.isnan(miou)}
    assert list(looked) == [2, 4, 6]
    assert said["chosen_step"] == said["chosen_epoch"] == max(looked, key=lambda step: looked[step])
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["step-0000003", "step-0000006"]
    kept = read_weights(tmp_path / "checkpoints" / "step-0000006" / "model")
    assert torch.equal(kept["head.0.weight"], read_weights(tmp_path / "model")["head.0.weight"]) == (
        said["chosen_step"] == 6
    )


def test_a_probe_can_choose_its_epoch_too(inputs: Inputs, tmp_path: Path) -> None:
    config = changed(RANDOM, selection=SelectionConfig(rule="best"))
    finetune.run(config, inputs, tmp_path, Resources())
    assert read_meta(tmp_path / "model")["selection"]["chosen_step"] <= 4
    with pytest.raises(ConfigError, match="layer_decay is for a backbone that is trained"):
        finetune.run(changed(RANDOM, layer_decay=0.9), inputs, tmp_path / "decay", Resources())


def test_computing_activations_twice_changes_no_bit(inputs: Inputs, tmp_path: Path) -> None:
    config = changed(RANDOM, probe=False)
    for name, resources in (("kept", Resources()), ("twice", Resources(checkpoint_activations=True))):
        finetune.run(config, inputs, tmp_path / name, resources)
    assert files(tmp_path / "twice") == files(tmp_path / "kept")
