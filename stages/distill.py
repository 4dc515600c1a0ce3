"""distill: features, memory and points -> Checkpoint: a LiDAR backbone that predicts what the images' memory says.

Features and references, or a materialised bank in their place.
"""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from lima_core import types
from lima_core.cost import Cost, Sample, Scale
from lima_core.datasets import dataset_config, open_dataset
from lima_core.errors import ConfigError
from lima_core.geometry.voxels import CylindricalGrid, VoxelGridConfig
from lima_core.loading.augment import AugmentConfig
from lima_core.loading.limits import LimitsConfig
from lima_core.loading.pretrain import PretrainSource
from lima_core.loading.segmentation import IN_CHANNELS
from lima_core.loading.targets import TargetSource
from lima_core.memory.cross_sequence import split_regions
from lima_core.memory.targets import BankTargets, materialised_targets
from lima_core.methods import MethodConfig, build_method
from lima_core.methods.lima import Lima, LimaConfig
from lima_core.models import BackboneConfig, build_backbone, num_parameters
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.models.recompute import recompute_activations
from lima_core.stores.feature_store import FeatureStore
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.materialised_bank import MaterialisedBank
from lima_core.stores.memory_bank import MemoryBank
from lima_core.training.checkpoint import save_weights
from lima_core.training.cost import (
    brief_fit,
    num_scans,
    resume_bytes,
    scan_seconds,
    training_bytes,
    training_disk_bytes,
)
from lima_core.training.loop import FitConfig, fit
from lima_core.types import Resources

VERSION = 6
TRAINS = True
"""Several processes may run this stage together (``Resources.rank``): the runner starts it in all of them."""


class Config(types.Config):
    """Who is taught, by which method, for how long; defaults are the paper's student with SuperFlow's schedule."""

    method: MethodConfig = LimaConfig()
    backbone: BackboneConfig = MinkUNetConfig()
    voxels: VoxelGridConfig = CylindricalGrid()
    augment: AugmentConfig | None = AugmentConfig()
    limits: LimitsConfig | None = None
    """Bounds on what a scan may bring, so that an odd one does not run out of memory."""
    fit: FitConfig = FitConfig(epochs=50, batch_size=32)
    splits: tuple[Literal["train", "val", "none"], ...] = ("train",)
    """Frames that are learned from; no label is ever read."""
    seed: int = 0


@dataclass(frozen=True)
class Inputs:
    """What the stage reads."""

    raw: Path
    index: Path
    extract_features: Path | None = None
    build_memory: Path | None = None
    materialize: Path | None = None
    """Targets pooled before; then the two above are not read."""


def run(config: Config, inputs: Inputs, out: Path, resources: Resources) -> dict[str, Any]:
    """Trains the student and writes ``backbone`` and ``head``; continues where a killed run stopped.

    With ``fit.checkpoints`` the folders below ``checkpoints`` are artifacts like this one, of an earlier step.

    Raises:
        ConfigError: no frame in the splits, a longer window than the bank's or another one than was materialised, or
            mixing with a single scene.
    """
    index = FrameIndex.open(inputs.index)
    targets = target_source(config, inputs)
    source = pretrain_source(config, inputs, index, targets)
    backbone = build_backbone(config.backbone, IN_CHANNELS, resources.engine, config.seed)
    student = build_method(config.method, backbone, targets.channels, config.seed)
    if resources.checkpoint_activations:
        recompute_activations(backbone)
    save = partial(save_student, config, student, index, targets)
    result = fit(student, student.loss, source, config.fit, out, resources, config.seed, "distill", save=save)
    if resources.rank > 0:
        return {}
    save(out)
    return {
        **asdict(result),
        "teacher": targets.teacher,
        "window": targets.window,
        "parameters": sum(parameter.numel() for parameter in backbone.parameters()),
    }


def estimate(config: Config, scale: Scale, resources: Resources) -> Cost:
    """Disk, memory and time before anything starts."""
    num_weights = num_parameters(config.backbone, IN_CHANNELS)
    num_frames = scale.frames_in(config.splits)
    scans = num_scans(config.fit, num_frames)
    return Cost(
        disk_bytes=training_disk_bytes(config.fit, num_frames, num_weights),
        memory_bytes=training_bytes(config.fit, scale.num_points, max(config.backbone.decoder_widths), num_weights),
        seconds=1.0 + scans * scan_seconds(scale.num_points, num_weights),
        passing_bytes=resume_bytes(config.fit, num_weights),
    )


def brief(config: Config, sample: Sample) -> Config:
    """The same training for a few steps."""
    return config.model_copy(update={"fit": brief_fit(config.fit, sample), "seed": 0})


def target_source(config: Config, inputs: Inputs) -> TargetSource:
    """What teaches the points: a materialised bank where there is one, else references and features."""
    method = config.method
    if inputs.materialize is not None:
        return materialised_targets(MaterialisedBank.open(inputs.materialize), method.frames, method.cross_view)
    assert inputs.build_memory is not None and inputs.extract_features is not None
    bank = MemoryBank.open(inputs.build_memory)
    window = method.frames or bank.frames
    bank.check_window(window)
    return BankTargets(bank, FeatureStore.open(inputs.extract_features), window, method.cross_view)


def pretrain_source(config: Config, inputs: Inputs, index: FrameIndex, targets: TargetSource) -> PretrainSource:
    """The frames to learn from, with their targets."""
    frames = tuple(frame for frame in index.frames() if frame.split in config.splits)
    if not frames:
        raise ConfigError(f"no frame in the splits {list(config.splits)}", where="distill.splits")
    if missing := {frame.scene for frame in frames} - targets.scenes:
        what = f"{len(missing)} scenes have no memory or features, {min(missing)} among them"
        remedy = "give build_memory.splits and extract_features.splits the splits of distill"
        raise ConfigError(what, where="distill.splits", remedy=remedy)
    mixing = config.method.cross_sequence
    return PretrainSource(
        dataset=open_dataset(dataset_config(index.dataset), inputs.raw),
        frames=frames,
        targets=targets,
        grid=config.voxels,
        augment=config.augment,
        seed=config.seed,
        mix_probability=0.0 if mixing.regions == "none" else mixing.probability,
        split_regions=lambda xyz_a, xyz_b, rng: split_regions(mixing, xyz_a, xyz_b, rng),
        limits=config.limits,
        blocks=config.fit.shuffle_blocks,
    )


def save_student(config: Config, student: Lima, index: FrameIndex, targets: TargetSource, out: Path) -> None:
    """Writes the backbone with all that a downstream stage must know, and the head beside it."""
    facts = {
        "method": config.method.name,
        "teacher": targets.teacher,
        "window": targets.window,
        "cross_view": config.method.cross_view,
        "in_channels": IN_CHANNELS,
        "voxels": config.voxels.model_dump(mode="json"),
        "backbone": config.backbone.model_dump(mode="json"),
        "intensity_max": index.facts.intensity_max,
        "dataset": index.facts.name,
    }
    save_weights(out / "backbone", student.backbone, {"kind": "backbone", **facts})
    head = {"kind": "head", "head": config.method.head.model_dump(mode="json"), "channels": student.channels}
    save_weights(out / "head", student.head, head)
