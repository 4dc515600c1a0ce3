"""evaluate: our numbers and the official evaluator's on the same predictions, and rows that say what was trained."""

import json
from pathlib import Path

import numpy as np
import pytest

from lima_core.datasets.labels import NUSCENES_CLASSES
from lima_core.errors import DataError, StoreError
from lima_core.metrics.segmentation import nuscenes_lidarseg_miou
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.predictions import Predictions
from lima_core.stores.scores import read_scores
from lima_core.types import IGNORE, Resources
from stages import evaluate
from stages.evaluate import Config, Inputs

TRAINING = {
    "dataset": "nuscenes", "task": "seg", "protocol": "linear_probe", "init": "pretrained", "method": "lima",
    "ratio": 0.01, "subset_rule": "every_nth_scene", "subset_hash": "0123456789abcdef", "num_scenes": 1,
    "num_frames": 3, "seed": 0,
}  # fmt: skip


@pytest.fixture
def inputs(labelled_world: Path, labelled_index: Path, tmp_path: Path) -> Inputs:
    """Predictions that are right for three points out of four."""
    finetune = tmp_path / "finetune"
    (finetune / "model").mkdir(parents=True)
    (finetune / "model" / "model.json").write_text(json.dumps({"training": TRAINING}))
    predictions = Predictions.create(finetune / "predictions", "mini_val", NUSCENES_CLASSES, False)
    rng = np.random.default_rng(0)
    for i in range(3):
        raw = np.fromfile(labelled_world / "lidarseg" / "v1.0-mini" / f"sdscene-0103-{i}_lidarseg.bin", dtype=np.uint8)
        truth = np.select([raw == 24, raw == 17, raw == 28], [10, 3, 14], 0)
        wrong = rng.integers(0, 16, len(raw))
        predictions.write(f"sdscene-0103-{i}", np.where(rng.random(len(raw)) < 0.75, truth, wrong).astype(np.uint8))
    return Inputs(raw=labelled_world, index=labelled_index, finetune=finetune)


def test_two_evaluators_give_the_same_rows(inputs: Inputs, tmp_path: Path) -> None:
    summary = evaluate.run(Config(), inputs, tmp_path, Resources())
    scores = read_scores(tmp_path)
    ours, theirs = scores[:17], scores[17:]
    assert {s.evaluator for s in ours} == {"lima"} and {s.evaluator.split()[0] for s in theirs} == {"nuscenes-devkit"}
    assert [(s.metric, s.class_name) for s in ours] == [(s.metric, s.class_name) for s in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert a.value == pytest.approx(b.value, abs=1e-9)
    assert summary["miou"] == ours[0].value and ours[0].metric == "miou"
    assert ours[0].subset_hash == TRAINING["subset_hash"] and ours[0].class_name == ""
    json.dumps(summary, allow_nan=False)


def test_rows_and_summary_say_how_the_weights_were_chosen(inputs: Inputs, tmp_path: Path) -> None:
    file = inputs.finetune / "model" / "model.json"
    for selection in ({"rule": "last"}, {"rule": "best", "heldout": 0.1, "heldout_hash": "89abcdef01234567"}):
        file.write_text(json.dumps({"training": TRAINING, "selection": selection}))
        summary = evaluate.run(Config(), inputs, tmp_path, Resources())
        wanted = selection["rule"], selection.get("heldout_hash", "")
        assert {(score.selection, score.heldout_hash) for score in read_scores(tmp_path)} == {wanted}
        assert (summary["training"]["selection"], summary["training"]["heldout_hash"]) == wanted


def test_evaluators_that_see_other_frames_are_told(inputs: Inputs, tmp_path: Path) -> None:
    index = FrameIndex.open(inputs.index)
    fewer = [frame for frame in index.frames() if frame.index != 0]
    FrameIndex.write(tmp_path / "fewer", fewer, index.facts, index.dataset)
    with pytest.raises(DataError, match=r"our evaluator and nuscenes-devkit .* differ: .*whole validation split"):
        evaluate.run(Config(), Inputs(inputs.raw, tmp_path / "fewer", inputs.finetune), tmp_path, Resources())


def test_a_missing_prediction_is_named(inputs: Inputs, tmp_path: Path) -> None:
    Predictions.open(inputs.finetune / "predictions").path("sdscene-0103-1").unlink()
    with pytest.raises(StoreError, match="no prediction for frame sdscene-0103-1"):
        evaluate.run(Config(), inputs, tmp_path, Resources())
    with pytest.raises(DataError, match=r"nuscenes-devkit refuses: .*sdscene-0103-1"):
        nuscenes_lidarseg_miou(inputs.raw, "v1.0-mini", "mini_val", inputs.finetune / "predictions")


def test_points_without_class_do_not_count(inputs: Inputs, tmp_path: Path) -> None:
    before = evaluate.run(Config(), inputs, tmp_path, Resources())
    dataset = evaluate.open_dataset(evaluate.dataset_config(FrameIndex.open(inputs.index).dataset), inputs.raw)
    predictions = Predictions.open(inputs.finetune / "predictions")
    for frame in FrameIndex.open(inputs.index).frames(split="val"):
        nothing = dataset.load_labels(frame) == IGNORE
        assert nothing.any()
        predictions.write(frame.token, np.where(nothing, 8, predictions.read(frame.token)).astype(np.uint8))
    assert evaluate.run(Config(), inputs, tmp_path, Resources()) == before
