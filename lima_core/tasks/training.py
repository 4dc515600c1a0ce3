"""Training of a segmentation model: all of it, or its head alone on a frozen backbone."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lima_core.errors import ConfigError
from lima_core.loading.collate import SegmentationBatch
from lima_core.loading.limits import dropped_points
from lima_core.loading.segmentation import SegmentationSource
from lima_core.loading.voxelise import voxelise
from lima_core.models.recompute import recompute_activations
from lima_core.tasks.probe import FeatureBatch, FrozenFeatures
from lima_core.tasks.segmentation import SegmentationConfig, SegmentationModel, segmentation_loss, taught
from lima_core.training.choice import Validation
from lima_core.training.distributed import World
from lima_core.training.loop import FitConfig, FitResult, fit
from lima_core.training.objective import Objective
from lima_core.training.optim import ParamGroup, decayed_groups
from lima_core.types import Resources


@dataclass(frozen=True)
class Training:
    """How a model is trained, and where to."""

    task: SegmentationConfig
    fit: FitConfig
    head_lr_multiplier: float
    """Rate of the head over that of the backbone."""
    layer_decay: float
    """Each stage of the backbone has this part of the rate of the one behind it."""
    seed: int
    """Of the order."""
    out: Path
    resources: Resources
    save: Callable[[Path], None]
    """Writes a checkpoint on the way."""
    validation: Validation | None = None
    """Looks at the model after epochs, and chooses the weights; None: the last ones."""


def train_all(model: SegmentationModel, source: SegmentationSource, training: Training) -> FitResult:
    """Trains backbone and head; errors as ``fit``."""
    if training.resources.checkpoint_activations:
        recompute_activations(model.backbone)
    world = World.of(training.resources)

    def loss(batch: SegmentationBatch) -> Objective:
        voxels = voxelise(batch.scans)
        rows, labels = taught(model(voxels.tensor()), batch.labels, voxels, training.task.teach)
        objective = segmentation_loss(rows, labels, training.task, world)
        return objective._replace(sums=dropped_points(voxels.dropped))

    return fit(
        model,
        loss,
        source,
        training.fit,
        training.out,
        training.resources,
        training.seed,
        "finetune",
        groups=param_groups(model, training.head_lr_multiplier, training.layer_decay),
        validation=training.validation,
        save=training.save,
    )


def param_groups(model: SegmentationModel, head_lr_multiplier: float, layer_decay: float) -> list[ParamGroup]:
    """Backbone, by stages where rates grow with depth, and head."""
    head = ParamGroup("head", tuple(model.head.parameters()), head_lr_multiplier)
    if layer_decay == 1:
        return [ParamGroup("backbone", tuple(model.backbone.parameters())), head]
    return [*decayed_groups(model.backbone.stages(), layer_decay), head]


def train_probe(model: SegmentationModel, source: SegmentationSource, training: Training) -> FitResult:
    """Trains the head alone; the backbone's tensors, BatchNorm statistics included, stay as they are.

    Raises:
        ConfigError: ``layer_decay``, which is for a backbone that is trained.
    """
    if training.layer_decay != 1:
        raise ConfigError("layer_decay is for a backbone that is trained", where="probe", remedy="set it to 1")
    device = training.resources.device
    backbone = model.backbone.to(device)
    features = FrozenFeatures(source, backbone, device, training.fit.precision, training.task.teach)
    world = World.of(training.resources)

    def loss(batch: FeatureBatch) -> Objective:
        objective = segmentation_loss(model.head(batch.features), batch.labels, training.task, world)
        return objective._replace(sums=dropped_points(batch.dropped))

    return fit(
        model.head,
        loss,
        features,
        training.fit,
        training.out,
        # Frozen features are made where batches are loaded: inline, so that the backbone has all threads.
        replace(training.resources, workers=0),
        training.seed,
        "probe",
        validation=training.validation,
        save=training.save,
    )
