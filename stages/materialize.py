"""materialize: features and memory -> MaterialisedBank: every target pooled once, for slow or remote disks."""

import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from lima_core import types
from lima_core.checksums import FILES
from lima_core.cost import Cost, Scale, longest
from lima_core.errors import ConfigError, StoreError
from lima_core.gpu import full_memory_told, require_device
from lima_core.memory.pooling import CrossView
from lima_core.memory.targets import BankTargets
from lima_core.parallel import device_of_parts, map_parts, one_thread
from lima_core.storage import Location
from lima_core.stores.basis import fit_basis, has_basis, write_basis
from lima_core.stores.codec import Codec, check_directions, code_width, num_directions
from lima_core.stores.feature_store import FeatureStore
from lima_core.stores.fidelity import fidelity_warning
from lima_core.stores.materialised_bank import (
    FOLDER,
    MaterialisedBank,
    MaterialisedFacts,
    create_materialised,
    unwritten_scenes,
    write_scene,
)
from lima_core.stores.memory_bank import MemoryBank
from lima_core.stores.scene_store import scene_attributes
from lima_core.teachers.shape import teacher_shape
from lima_core.training.tensors import moved
from lima_core.types import Resources

VERSION = 2
REMOTE = True
"""Its artifact is written and read where it lies, be that a URL (``pipeline.places``)."""
FULL = "free the GPU of other processes, or give --device cpu"


class Config(types.Config):
    """What is pooled, and how it is stored."""

    frames: int | None = Field(None, ge=1)
    """Window in key frames; null: the whole window of the bank. A student is taught by exactly this one."""
    cross_view: CrossView = "mean"
    """How the cameras of one frame share a voxel, as ``distill.method.cross_view``."""
    codec: Codec = "int8"
    """float16, int8, or pca<D>: int8 of D coefficients along a basis of its own, fitted to targets."""
    fit_frames: int = Field(32, ge=1)
    """Evenly spaced frames whose targets the basis of pca<D> is fitted to."""


@dataclass(frozen=True)
class Inputs:
    """What the stage reads."""

    extract_features: Path
    build_memory: Path


@dataclass(frozen=True)
class Job:
    """All that a process needs to know to do scenes of an artifact."""

    config: Config
    inputs: Inputs
    out: Location
    device: str


@dataclass(frozen=True)
class Opened:
    """What is pooled, and what becomes of it."""

    source: BankTargets
    facts: MaterialisedFacts


def run(config: Config, inputs: Inputs, out: Location, resources: Resources) -> dict[str, Any]:
    """Pools the bank scene by scene; scenes that an earlier, killed run completed are kept.

    Raises:
        StoreError: the bank was built for a shorter window.
        ConfigError: bank and features share no scene, or the codec asks for more directions than there are channels.
        UserError: the GPU's memory is too small.
    """
    opened.cache_clear()
    job = Job(config, inputs, out, resources.device)
    own = opened(job)
    create_materialised(out, own.facts)
    prepare_basis(job, own.source)
    missing = unwritten_scenes(out, own.facts)
    device = device_of_parts(resources, "materialize") if missing else resources.device
    on_gpu = device.startswith("cuda")
    # On this machine's one GPU processes would crowd each other out.
    given = replace(resources, workers=0) if on_gpu and not resources.scheduler else resources
    work = partial(pool_scene, replace(job, device=device), begun(own.facts))
    map_parts(work, missing, given, "materialize", on_gpu=on_gpu)
    opened.cache_clear()
    told = summary(MaterialisedBank.open(out))
    if "warning" in told:
        print(f"materialize: warning: {told['warning']}", file=sys.stderr, flush=True)
    return told


def reaching(scale: Scale, reads: Mapping[str, Any]) -> Scale:
    """The scenes of both bank and features, and the teacher's channels."""
    features, memory = reads["extract_features"], reads["build_memory"]
    both = [scene for scene in scale.scenes if scene.is_in(features.splits) and scene.is_in(memory.splits)]
    shape = teacher_shape(features.teacher)
    return replace(scale, scenes=tuple(both), channels=shape.channels if shape else None)


def estimate(config: Config, scale: Scale, resources: Resources) -> Cost:
    """Disk, memory and time; a scan is taken to have 0.55 targets per point."""
    if scale.channels is None:
        return Cost()
    width, lengths = code_width(config.codec, scale.channels), scale.lengths()
    feeds_gpu = resources.device.startswith("cuda") and not resources.scheduler
    workers = 1 if feeds_gpu else max(1, resources.workers)  # one process feeds a GPU
    frame_bytes = scale.num_points * (4 + 0.55 * width * (2 if config.codec == "float16" else 1))
    return Cost(
        disk_bytes=round(sum(lengths) * frame_bytes),
        memory_bytes=(400_000_000 + 8_000 * scale.num_points) * workers,
        seconds=1.0 + longest([7e-6 * length * scale.num_points for length in lengths], workers),
    )


@lru_cache(maxsize=1)
def opened(job: Job) -> Opened:
    """What a job reads, once in a process: opening looks at every scene."""
    require_device(job.device)
    bank = MemoryBank.open(job.inputs.build_memory)
    window = job.config.frames or bank.frames
    bank.check_window(window)
    source = BankTargets(bank, FeatureStore.open(job.inputs.extract_features), window, job.config.cross_view)
    return Opened(source, facts_of(job.config, source))


def facts_of(config: Config, source: BankTargets) -> MaterialisedFacts:
    """Everything that is known before a target is pooled."""
    scenes = tuple(scene for scene in source.bank.scenes() if scene in source.scenes)
    if not scenes:
        remedy = "give extract_features.splits and build_memory.splits the splits of distill"
        raise ConfigError("bank and features share no scene", where="materialize", remedy=remedy)
    check_directions(config.codec, source.channels, where="materialize.codec")
    return MaterialisedFacts(source.teacher, source.channels, source.window, config.cross_view, config.codec, scenes)


def begun(facts: MaterialisedFacts) -> MaterialisedFacts:
    """What every worker must find as well, and small: the list of all scenes would go with every single one."""
    return replace(facts, scenes=())


def pool_scene(job: Job, expected: MaterialisedFacts, scene: str) -> None:
    """Pools and writes the targets of one scene, in whatever process.

    Raises:
        StoreError: this process finds other features or another bank than ``expected``, with which the store began.
    """
    own = opened(job)
    if begun(own.facts) != expected:
        found, wanted = (f"{facts.teacher!r} over {facts.frames} frames" for facts in (own.facts, expected))
        what = f"finds targets of {found}, this store was begun with {wanted}"
        raise StoreError(what, where=f"worker on {platform.node()}", remedy="give every worker the same files")
    with full_memory_told(f"scene {scene}", FULL), write_scene(job.out, own.facts, scene) as writer:
        for index in range(own.source.bank.num_frames(scene)):
            writer.append(*pooled(own.source, scene, index, job.device))


def pooled(source: BankTargets, scene: str, index: int, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Target of each point (N,) int32, and the targets (T, C) float32 of one frame, exactly as a trainer pools them."""
    point_target, memory = source.read(scene, index)
    return point_target, moved(source.join([memory]), device).features().cpu().numpy()


def prepare_basis(job: Job, source: BankTargets) -> None:
    """Fits the basis of codec ``pca<D>``, unless an earlier, killed run of this artifact did."""
    directions = num_directions(job.config.codec)
    if directions is None or has_basis(job.out):
        return
    told = zip(source.bank.scenes(), source.bank.attributes(), strict=True)
    frames = [(scene, index) for scene, facts in told if scene in source.scenes for index in range(facts["num_frames"])]
    with one_thread(), full_memory_told("the basis", FULL):  # the number of cores must not change its bits
        sample = sampled_targets(source, frames, job.config.fit_frames, job.device)
        write_basis(job.out, fit_basis(sample, source.channels, directions))


def sampled_targets(
    source: BankTargets, frames: Sequence[tuple[str, int]], num_frames: int, device: str
) -> Iterator[np.ndarray]:
    """Targets (T, C) float32 of evenly spaced ``frames`` (scene, index), one after the other."""
    count = min(num_frames, len(frames))
    for i in range(count):
        yield pooled(source, *frames[(2 * i + 1) * len(frames) // (2 * count)], device)[1]


def summary(bank: MaterialisedBank) -> dict[str, Any]:
    """What ``lima show`` prints."""
    facts, scenes, fidelity = bank.facts, bank.summaries(), bank.fidelity()
    parts = scene_attributes(bank.path / FOLDER, bank.scenes())
    num_bytes = sum(num_bytes for part in parts for num_bytes, _ in part[FILES].values())
    num_frames = sum(scene.num_frames for scene in scenes)
    warning = fidelity_warning(facts.codec, fidelity)
    return {
        "frames": num_frames,
        "window": facts.frames,
        "codec": facts.codec,
        "bytes_per_frame": round(num_bytes / max(num_frames, 1)),
        "targets_per_frame": round(sum(scene.num_targets for scene in scenes) / max(num_frames, 1)),
        "cross_view": facts.cross_view,
        "teacher": facts.teacher,
        "channels": facts.channels,
        "fidelity": asdict(fidelity),
        **({"warning": warning} if warning else {}),
    }
