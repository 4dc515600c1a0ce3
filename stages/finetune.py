"""finetune: FrameIndex and, unless it starts at random, a distilled checkpoint -> a trained model and its predictions.

``probe`` trains the linear head alone on a frozen backbone (features in memory where nothing is augmented);
otherwise everything is trained. Predictions are for all frames of the validation split, one class a point.

Reads
    raw: scans and labels.
    index: FrameIndex.
    checkpoint: artifact of ``distill``, or None for ``init: random``.
Writes
    model/: weights and ``model.json``, which says all that scores must say about this training.
    checkpoints/: the same on the way, where ``fit.checkpoints`` asks for it.
    predictions/: ``lima_core.stores.predictions``.
    curve.parquet: one row per step.
    logs/: times, TensorBoard.
"""

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from lima_core.cost import Cost, Sample, Scale
from lima_core.datasets import dataset_config, open_dataset
from lima_core.errors import DataError
from lima_core.geometry.voxels import VoxelGridConfig
from lima_core.loading.augment import AugmentConfig
from lima_core.loading.heldout import hold_out, require_labelled, scenes_hash
from lima_core.loading.limits import LimitsConfig
from lima_core.loading.segmentation import IN_CHANNELS, SegmentationSource
from lima_core.loading.subsets import Subset, SubsetConfig, subset_frames, take_subset
from lima_core.models import BackboneConfig, num_parameters
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.predictions import Predictions
from lima_core.tasks import TaskConfig
from lima_core.tasks.heldout import MIOU, heldout_scores
from lima_core.tasks.predicting import eval_set, predict
from lima_core.tasks.probe import DEFAULT_BUDGET_BYTES, HEAD_SECONDS
from lima_core.tasks.segmentation import SegmentationConfig, SegmentationModel
from lima_core.tasks.start import Init, Start, start_from
from lima_core.tasks.training import Training, train_all, train_probe
from lima_core.training.checkpoint import save_weights
from lima_core.training.choice import SelectionConfig, Validation
from lima_core.training.cost import (
    FORWARD,
    brief_fit,
    num_scans,
    resume_bytes,
    scan_seconds,
    training_bytes,
    training_disk_bytes,
)
from lima_core.training.loop import FitConfig, FitResult
from lima_core.training.optim import AdamWConfig
from lima_core.types import Config as BaseConfig
from lima_core.types import DatasetFacts, Frame, Resources

VERSION = 3
TRAINS = True
"""Several processes may run this stage together (``Resources.rank``): the runner starts it in all of them."""


class Config(BaseConfig):
    """Defaults are the downstream recipe of the SuperFlow lineage (configs/_base_/schedules/downstream.py)."""

    task: TaskConfig = SegmentationConfig()
    probe: bool = False
    """Train the head alone."""
    init: Init = "pretrained"
    subset: SubsetConfig = SubsetConfig()
    """Share of the labelled training frames."""
    fit: FitConfig = FitConfig(epochs=100, batch_size=16, optimiser=AdamWConfig(lr=1e-3))
    head_lr_multiplier: float = Field(default=1.0, gt=0)
    """Rate of the head over that of the backbone: SuperFlow 1 in effect, SLidR 100 for a pretrained backbone."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Each stage of the backbone has this part of the rate of the one behind it, the last of that of the head: ScaLR
    0.95 (1 and 10 % of labels) and 0.99."""
    selection: SelectionConfig = SelectionConfig()
    """Which epoch's weights are predicted with."""
    augment: AugmentConfig | None = AugmentConfig()
    """None: every epoch sees the same scans."""
    limits: LimitsConfig | None = None
    """Bounds on the scans that are trained on; those that are predicted stay whole."""
    backbone: BackboneConfig | None = None
    """Needed for ``init: random``; with a checkpoint it may be left out and must otherwise be the checkpoint's."""
    voxels: VoxelGridConfig | None = None
    """As ``backbone``."""
    bn_momentum: float = Field(default=0.02, gt=0, le=1)
    """Of all BatchNorms downstream (SuperFlow 0.02), whatever it was in pretraining."""
    seed: int = 0
    """Of the initial head (and backbone), the order and the augmentation."""


@dataclass(frozen=True)
class Inputs:
    """What the stage reads."""

    raw: Path
    index: Path
    checkpoint: Path | None = None


def run(config: Config, inputs: Inputs, out: Path, resources: Resources) -> dict[str, Any]:
    """Trains, saves the model, predicts the validation split.

    Raises:
        CheckpointError: a checkpoint of another architecture, voxel grid or input.
        ConfigError: ``init`` and checkpoint contradict each other, or a config is missing.
        DataError: no labels, no frames, or frames that cannot be used.
    """
    index = FrameIndex.open(inputs.index)
    dataset = open_dataset(dataset_config(index.dataset), inputs.raw)
    if not index.facts.classes:
        raise DataError("the data set has no labels", where=inputs.raw, remedy="install its segmentation labels")
    subset = take_subset(index.frames(split="train"), config.subset)
    frames = validation_frames(index)
    trained, heldout = (subset, ()) if config.selection.rule == "last" else hold_out(subset, config.selection.heldout)
    start = start_from(
        config.init,
        inputs.checkpoint,
        config.backbone,
        config.voxels,
        bn_momentum=config.bn_momentum,
        engine=resources.engine,
        seed=config.seed,
    )
    model = SegmentationModel(start.backbone, len(index.facts.classes), config.seed)
    source = SegmentationSource(dataset, trained.frames, start.voxels, config.augment, config.seed, config.limits)
    made = {"selection": selection_of(config, heldout), "processes": resources.world_size}
    meta = describe(config, start, trained, index.facts) | made
    training = Training(
        config.task,
        config.fit,
        config.head_lr_multiplier,
        config.layer_decay,
        config.seed,
        out,
        resources,
        save=lambda path: save_weights(path / "model", model, meta),
    )
    if heldout:
        require_labelled(heldout, dataset.load_labels)
        scores = partial(heldout_scores, model, dataset, heldout, start.voxels, index.facts.classes, resources)
        training = replace(training, validation=Validation(scores, config.selection.every, MIOU))
    result = (train_probe if config.probe else train_all)(model, source, training)
    if resources.rank > 0:
        return {}
    chosen = {"chosen_step": result.chosen_step, "chosen_epoch": result.chosen_epoch}
    save_weights(out / "model", model, meta | {"selection": meta["selection"] | chosen})
    predictions = Predictions.create(
        out / "predictions", eval_set(dataset_config(index.dataset)), index.facts.classes, config.init == "pretrained"
    )
    predict(model, dataset, frames, start.voxels, predictions, resources)
    return _summary(result, trained, frames, start) | {"selection": meta["selection"]}


def estimate(config: Config, scale: Scale, resources: Resources) -> Cost:
    """Disk, memory and time before anything starts: the training, looks at held-out scenes, the predictions."""
    backbone = config.backbone or MinkUNetConfig()
    num_weights = num_parameters(backbone, IN_CHANNELS)
    num_frames = subset_frames([scene.train for scene in scale.scenes if scene.train], config.subset)
    num_val = scale.frames_in(("val",))
    scans, scan_s = num_scans(config.fit, num_frames), scan_seconds(scale.num_points, num_weights)
    looked_at = 0.0
    if config.selection.rule == "best":
        looked_at = scans / config.selection.every * config.selection.heldout
    kept = _kept_bytes(config, num_frames, scale.num_points, backbone.decoder_widths[-1])
    seconds = _probe_seconds(config, num_frames, scans, kept, scale.num_points, scan_s) if config.probe else None
    fit = config.fit.model_copy(update={"batch_size": 1, "accumulate": 1}) if config.probe else config.fit
    memory_bytes = training_bytes(fit, scale.num_points, max(backbone.decoder_widths), num_weights)
    return Cost(
        disk_bytes=training_disk_bytes(config.fit, num_frames, num_weights) + num_val * scale.num_points,
        memory_bytes=memory_bytes + min(kept, DEFAULT_BUDGET_BYTES),
        seconds=1.0 + (scans * scan_s if seconds is None else seconds) + (looked_at + num_val) * scan_s * FORWARD,
        passing_bytes=resume_bytes(config.fit, 0 if config.probe else num_weights),
    )


def _kept_bytes(config: Config, num_frames: int, num_points: int, channels: int) -> int:
    """Features that a probe would keep in memory if there were room; about half as many voxels as points."""
    return num_frames * num_points * channels * 2 if config.probe and config.augment is None else 0


def _probe_seconds(config: Config, num_frames: int, scans: int, kept: int, num_points: int, scan_s: float) -> float:
    """Every scan goes through the backbone once, and again in every epoch where its features were not kept."""
    share = min(1.0, DEFAULT_BUDGET_BYTES / kept) if kept else 0.0
    first = min(scans, num_frames)
    return (first + (scans - first) * (1 - share)) * scan_s * FORWARD + scans * num_points * HEAD_SECONDS


def brief(config: Config, sample: Sample) -> Config:
    """The same training for a few steps, from a random start, with all labels of the sample."""
    usual = {"init": "random", "subset": SubsetConfig(), "selection": SelectionConfig(), "seed": 0}
    return config.model_copy(update=usual | {"fit": brief_fit(config.fit, sample)})


def validation_frames(index: FrameIndex) -> tuple[Frame, ...]:
    """Frames to predict and score, looked for before anything is trained.

    Raises:
        DataError: there is none, or one without labels.
    """
    frames = index.frames(split="val")
    if not frames:
        remedy = "give dataset.json splits, or set index.dataset.split_in_time"
        raise DataError("no frame in the validation split", where=f"data set {index.facts.name}", remedy=remedy)
    if unlabelled := [frame.token for frame in frames if frame.labels is None]:
        raise DataError(f"{len(unlabelled)} validation frames have no labels, the first is {unlabelled[0]}")
    return frames


def describe(config: Config, start: Start, trained: Subset, facts: DatasetFacts) -> dict[str, Any]:
    """``model.json``: what the model is, and what a score of it has to say; ``trained`` without what is held out."""
    training = {
        "dataset": facts.name,
        "task": config.task.name,
        "protocol": "linear_probe" if config.probe else "finetune",
        "init": config.init,
        "method": start.method,
        "ratio": trained.ratio,
        "subset_rule": trained.rule,
        "subset_hash": trained.hash,
        "num_scenes": trained.num_scenes,
        "num_frames": len(trained.frames),
        "seed": config.seed,
    }
    return {
        "kind": "segmentation",
        "backbone": start.config.model_dump(mode="json"),
        "voxels": start.voxels.model_dump(mode="json"),
        "in_channels": IN_CHANNELS,
        "classes": list(facts.classes),
        "teacher": start.teacher,
        "intensity_max": facts.intensity_max,
        "training": training,
    }


def selection_of(config: Config, heldout: tuple[Frame, ...]) -> dict[str, Any]:
    """What ``model.json`` says about how the weights were chosen."""
    if not heldout:
        return {"rule": config.selection.rule}
    scenes = {"heldout_scenes": len({frame.scene for frame in heldout}), "heldout_hash": scenes_hash(heldout)}
    return config.selection.model_dump(mode="json") | scenes | {"heldout_frames": len(heldout)}


def _summary(result: FitResult, trained: Subset, frames: tuple[Frame, ...], start: Start) -> dict[str, Any]:
    data = {"train_scenes": trained.num_scenes, "train_frames": len(trained.frames), "subset_hash": trained.hash}
    return asdict(result) | data | {"predicted_frames": len(frames), "method": start.method}
