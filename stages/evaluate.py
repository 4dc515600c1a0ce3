"""evaluate: predictions -> Scores, IoU per point, by our own evaluator and, on nuScenes, by the official one too.

Reads
    raw: labels.
    index: FrameIndex.
    finetune: artifact of ``finetune``.
Writes
    scores.parquet: one row per number (``lima_core.stores.scores``).
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from lima_core.cost import Cost, Scale
from lima_core.datasets import DatasetConfig, dataset_config, open_dataset
from lima_core.datasets.adapter import Dataset
from lima_core.datasets.nuscenes import NuScenesConfig
from lima_core.errors import DataError, StoreError
from lima_core.metrics.segmentation import IoU, confusion_matrix, iou_of, nuscenes_lidarseg_miou, same_iou
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.predictions import Predictions
from lima_core.stores.scores import Score, write_scores
from lima_core.training.checkpoint import read_meta
from lima_core.types import Config as BaseConfig
from lima_core.types import Frame, Resources

VERSION = 2


class Config(BaseConfig):
    """Nothing to choose: the protocol is fixed."""


@dataclass(frozen=True)
class Inputs:
    """What the stage reads."""

    raw: Path
    index: Path
    finetune: Path


def run(config: Config, inputs: Inputs, out: Path, resources: Resources) -> dict[str, Any]:
    """Scores the predictions of one model on the whole validation split.

    Raises:
        DataError: labels or predictions that do not fit, or two evaluators that disagree.
        StoreError: a frame without prediction, or not one for every point.
    """
    index = FrameIndex.open(inputs.index)
    described = dataset_config(index.dataset)
    dataset = open_dataset(described, inputs.raw)
    predictions = Predictions.open(inputs.finetune / "predictions")
    meta = read_meta(inputs.finetune / "model")
    training = meta["training"] | chosen_by(meta)
    ours = own_iou(dataset, index.frames(split="val"), predictions)
    found = {"lima": ours} | official(described, inputs.raw, predictions)
    for name, theirs in found.items():
        if difference := same_iou(ours, theirs):
            what = f"our evaluator and {name} differ: {difference}"
            raise DataError(what, where=predictions.root, remedy="the index must hold the whole validation split")
    scores = [score for name, iou in found.items() for score in rows(training, name, iou)]
    write_scores(out, scores)
    return summary(training, ours, list(found))


def estimate(config: Config, scale: Scale, resources: Resources) -> Cost:
    """Disk, memory and time: two evaluators, of which the second reads tables first."""
    num_frames = scale.frames_in(("val",))
    return Cost(15_000, 600_000_000, 1.0 + 1e-3 * scale.num_frames + 1e-6 * scale.num_points * num_frames)


def rehearse(config: Config, inputs: Inputs, out: Path, resources: Resources) -> dict[str, Any]:
    """The same work on a part of the validation split, which ``run`` refuses: scores of a part are no result."""
    index = FrameIndex.open(inputs.index)
    described, frames = dataset_config(index.dataset), index.frames(split="val")
    predictions = Predictions.open(inputs.finetune / "predictions")
    ours = own_iou(open_dataset(described, inputs.raw), frames, predictions)
    found = {"lima": ours} | official(described, inputs.raw, predictions, {frame.token for frame in frames})
    training = read_meta(inputs.finetune / "model")["training"]
    write_scores(out, [score for name, iou in found.items() for score in rows(training, name, iou)])
    return summary(training, ours, list(found))


def own_iou(dataset: Dataset, frames: tuple[Frame, ...], predictions: Predictions) -> IoU:
    """IoU over all points of ``frames``."""
    num_classes = len(predictions.classes)
    total = np.zeros((num_classes, num_classes), dtype=np.int64)
    for frame in frames:
        labels, ids = dataset.load_labels(frame), predictions.read(frame.token)
        if len(ids) != len(labels):
            where, remedy = predictions.path(frame.token), "run lima verify --repair"
            raise StoreError(f"holds {len(ids)} predictions for {len(labels)} points", where=where, remedy=remedy)
        total += confusion_matrix(labels, ids, num_classes)
    return iou_of(total, predictions.classes)


def official(
    dataset: DatasetConfig, raw: Path, predictions: Predictions, only: Collection[str] | None = None
) -> dict[str, IoU]:
    """What the data set's own evaluator finds (``only`` in these frames), by its name; nothing where there is none."""
    if not isinstance(dataset, NuScenesConfig):
        return {}
    iou = nuscenes_lidarseg_miou(raw, dataset.version, predictions.eval_set, predictions.root, only)
    return {f"nuscenes-devkit {version('nuscenes-devkit')}": iou}


def chosen_by(meta: dict[str, Any]) -> dict[str, str]:
    """How the weights were chosen, as a score row says it; models that do not say were left at their last step."""
    selection = meta.get("selection", {"rule": "last"})
    return {"selection": selection["rule"], "heldout_hash": selection.get("heldout_hash", "")}


def rows(training: dict[str, Any], evaluator: str, iou: IoU) -> list[Score]:
    """The mean first, then every class."""
    named = [("miou", "", iou.mean), *(("iou", name, value) for name, value in iou.per_class.items())]
    return [
        Score(**training, evaluator=evaluator, metric=metric, class_name=name, value=_defined(value))
        for metric, name, value in named
    ]


def summary(training: dict[str, Any], iou: IoU, evaluators: list[str]) -> dict[str, Any]:
    """What the manifest says about the scores."""
    per_class = {name: _defined(value) for name, value in iou.per_class.items()}
    return {"miou": _defined(iou.mean), "iou": per_class, "evaluators": evaluators, "training": training}


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
