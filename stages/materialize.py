"""materialize: features and memory -> MaterialisedBank: every target pooled once, for slow or remote disks."""

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
from lima_core.errors import ConfigError
from lima_core.memory.pooling import CrossView
from lima_core.memory.targets import BankTargets
from lima_core.parallel import device_of_parts, map_parts, one_thread
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

VERSION = 1
REMOTE = True
"""Its artifact is written and read where it lies, be that a URL (``pipeline.places``)."""


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


def run(config: Config, inputs: Inputs, out: Path, resources: Resources) -> dict[str, Any]:
    """Pools the bank scene by scene; scenes that an earlier, killed run completed are kept.

    Raises:
        StoreError: the bank was built for a shorter window.
        ConfigError: bank and features share no scene, or the codec asks for more directions than there are channels.
    """
    target_source.cache_clear()
    source = target_source(config, inputs)
    told = zip(source.bank.scenes(), source.bank.attributes(), strict=True)
    lengths = {scene: attributes["num_frames"] for scene, attributes in told}
    facts = facts_of(config, source)
    create_materialised(out, facts)
    prepare_basis(config, source, lengths, out, resources.device)
    missing = [(scene, lengths[scene]) for scene in unwritten_scenes(out, facts)]
    device = device_of_parts(resources, "materialize") if missing else resources.device
    on_gpu = device.startswith("cuda")
    # On this machine's one GPU processes would crowd each other out.
    given = replace(resources, workers=0) if on_gpu and not resources.scheduler else resources
    map_parts(partial(pool_scene, config, inputs, facts, out, device), missing, given, "materialize", on_gpu=on_gpu)
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
    frame_bytes = scale.num_points * (4 + 0.55 * width * (2 if config.codec == "float16" else 1))
    return Cost(
        disk_bytes=round(sum(lengths) * frame_bytes),
        memory_bytes=(400_000_000 + 8_000 * scale.num_points) * max(1, resources.workers),
        seconds=1.0 + longest([7e-6 * length * scale.num_points for length in lengths], resources.workers),
    )


@lru_cache(maxsize=1)
def target_source(config: Config, inputs: Inputs) -> BankTargets:
    """What is pooled, opened once in a process: opening looks at every scene."""
    bank = MemoryBank.open(inputs.build_memory)
    window = config.frames or bank.frames
    bank.check_window(window)
    return BankTargets(bank, FeatureStore.open(inputs.extract_features), window, config.cross_view)


def facts_of(config: Config, source: BankTargets) -> MaterialisedFacts:
    """Everything that is known before a target is pooled."""
    scenes = tuple(scene for scene in source.bank.scenes() if scene in source.scenes)
    if not scenes:
        remedy = "give extract_features.splits and build_memory.splits the splits of distill"
        raise ConfigError("bank and features share no scene", where="materialize", remedy=remedy)
    check_directions(config.codec, source.channels, where="materialize.codec")
    return MaterialisedFacts(source.teacher, source.channels, source.window, config.cross_view, config.codec, scenes)


def pool_scene(
    config: Config, inputs: Inputs, facts: MaterialisedFacts, out: Path, device: str, part: tuple[str, int]
) -> None:
    """Pools and writes the targets of one scene, given with its number of frames."""
    scene, num_frames = part
    source = target_source(config, inputs)
    with write_scene(out, facts, scene) as writer:
        for index in range(num_frames):
            writer.append(*pooled(source, scene, index, device))


def pooled(source: BankTargets, scene: str, index: int, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Target of each point (N,) int32, and the targets (T, C) float32 of one frame, exactly as a trainer pools them."""
    point_target, memory = source.read(scene, index)
    return point_target, moved(source.join([memory]), device).features().cpu().numpy()


def prepare_basis(config: Config, source: BankTargets, lengths: dict[str, int], out: Path, device: str) -> None:
    """Fits the basis of codec ``pca<D>``, unless an earlier, killed run of this artifact did."""
    directions = num_directions(config.codec)
    if directions is None or has_basis(out):
        return
    frames = [(scene, index) for scene in lengths if scene in source.scenes for index in range(lengths[scene])]
    with one_thread():  # the number of cores must not change its bits
        sample = sampled_targets(source, frames, config.fit_frames, device)
        write_basis(out, fit_basis(sample, source.channels, directions))


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
