"""extract-features: images -> FeatureStore. The frozen teacher looks at every image once, ever."""

import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from safetensors.torch import load, save_file

from lima_core import types
from lima_core.cost import Cost, Scale, longest
from lima_core.datasets import dataset_config, open_dataset
from lima_core.datasets.adapter import Dataset
from lima_core.errors import ConfigError, DataError, StoreError
from lima_core.gpu import full_memory_told, require_device
from lima_core.loading.images import load_image, load_images, to_tensor
from lima_core.parallel import device_of_parts, map_parts, one_thread
from lima_core.storage import Location, is_file, read_bytes
from lima_core.stores.basis import fit_basis, has_basis, write_basis
from lima_core.stores.codec import Codec, bytes_per_frame, check_directions, num_directions
from lima_core.stores.feature_store import FeatureFacts, FeatureStore, create_store, finish_store, unwritten_scenes
from lima_core.stores.feature_writer import write_scene
from lima_core.stores.fidelity import fidelity_warning
from lima_core.stores.frame_index import FrameIndex
from lima_core.teachers import FilterbankConfig, Teacher, TeacherConfig, build_teacher
from lima_core.teachers.shape import teacher_shape
from lima_core.training.prefetch import ahead
from lima_core.types import Camera, Frame, Resources
from lima_core.whole import appears_whole

VERSION = 4
REMOTE = True
"""Its artifact is written and read where it lies, be that a URL (``pipeline.places``)."""
TEACHER_STATE = "teacher.safetensors"
FULL = "free the GPU of other processes, lower extract-features.image_size_px, or give --device cpu"


class Config(types.Config):
    """What is stored."""

    teacher: TeacherConfig = FilterbankConfig()
    image_size_px: tuple[int, int] = (224, 448)
    """Height and width that the teacher sees, multiples of its patch; every image is resized to it."""
    splits: tuple[Literal["train", "val", "none"], ...] = ("train",)
    """Scenes with a frame in one of these; distillation reads train only."""
    codec: Codec = "int8"
    """float16, int8, or pca<D>: int8 of D coefficients, D up to the teacher's channels."""
    fit_images: int = Field(default=64, ge=1)
    """Evenly spaced images of the train split, for what is fitted: the filterbank teacher, the basis of pca<D>."""

    @model_validator(mode="after")
    def _codec_fits_a_teacher_that_states_its_channels(self) -> "Config":
        if isinstance(self.teacher, FilterbankConfig):
            check_directions(self.codec, self.teacher.channels)
        return self


@dataclass(frozen=True)
class Inputs:
    """What the stage reads."""

    raw: Path
    index: Path
    weights: Path | None = None
    """Local folder of a Hugging Face teacher; without it ``teacher.model`` is looked up on the hub."""


@dataclass(frozen=True)
class Job:
    """All that a process needs to know to do scenes of an artifact."""

    config: Config
    inputs: Inputs
    out: Location
    device: str
    num_loaders: int
    """Threads that load images ahead."""


@dataclass(frozen=True)
class Opened:
    """What a job reads; the teacher is fitted where an earlier process of this artifact fitted it."""

    index: FrameIndex
    dataset: Dataset
    teacher: Teacher
    facts: FeatureFacts


def run(config: Config, inputs: Inputs, out: Location, resources: Resources) -> dict[str, Any]:
    """Writes the store scene by scene; scenes that an earlier, killed run completed are kept.

    What is fitted is fitted here; then a GPU of this machine is fed by this process, with loader threads, and on CPUs
    every worker process does scenes on one thread.

    Raises:
        ConfigError: the image size is not a multiple of the patch, the codec asks for more directions than the teacher
            has channels, or no scene is in the splits.
        DataError: an image is missing, truncated or of another size than its calibration says.
        UserError: the GPU's memory is too small.
    """
    device = device_of_parts(resources, "extract-features")
    on_gpu = device != "cpu"
    job = Job(config, inputs, out, device, resources.workers if on_gpu else 0)
    opened.cache_clear()
    own = opened(job if not resources.scheduler else replace(job, device=resources.device))
    create_store(out, own.facts)
    with one_thread(), full_memory_told("what is fitted", FULL):
        prepare_teacher(config, own, out)
        prepare_basis(config, own, out)
    if on_gpu and not resources.scheduler:
        resources = replace(resources, workers=0)
    missing = unwritten_scenes(out, own.facts)
    work = partial(extract_scene, job, own.facts.teacher)
    map_parts(work, missing, resources, "extract-features", on_gpu=on_gpu)
    opened.cache_clear()
    told = summary(finish_store(out))
    if "warning" in told:
        print(f"extract-features: warning: {told['warning']}", file=sys.stderr, flush=True)
    return told


@lru_cache(maxsize=1)
def opened(job: Job) -> Opened:
    """Index, data set and teacher of a job, once in every process."""
    require_device(job.device)
    index = FrameIndex.open(job.inputs.index)
    dataset = open_dataset(dataset_config(index.dataset), job.inputs.raw)
    with full_memory_told("the teacher", FULL):
        teacher = build_teacher(_located(job.config.teacher, job.inputs.weights), job.device)
    if is_file(job.out / TEACHER_STATE):
        teacher.load_state(load(read_bytes(job.out / TEACHER_STATE)))
    return Opened(index, dataset, teacher, feature_facts(job.config, teacher, index))


def extract_scene(job: Job, teacher: str, scene: str) -> None:
    """Encodes and writes one scene, in whatever process.

    Raises:
        StoreError: this process has another teacher than ``teacher``, which began the store.
    """
    own = opened(job)
    if own.facts.teacher != teacher:
        what = f"has teacher {own.facts.teacher!r}, this store was begun with {teacher!r}"
        raise StoreError(what, where=f"worker on {platform.node()}", remedy="give every worker the same weights")
    with full_memory_told(f"scene {scene}", FULL):
        write_features(own, own.index.frames(scene), job.out, job.num_loaders)


def _located(teacher: TeacherConfig, weights: Path | None) -> TeacherConfig:
    return teacher if weights is None else teacher.model_copy(update={"model": str(weights)})


def estimate(config: Config, scale: Scale, resources: Resources) -> Cost:
    """Disk, memory and time on one core; patch, channels and weights as the teacher's config or name says."""
    shape = teacher_shape(config.teacher)
    if shape is None:
        return Cost()
    lengths = scale.lengths(config.splits)
    num_frames = sum(lengths)
    grid = config.image_size_px[0] // shape.patch_px, config.image_size_px[1] // shape.patch_px
    frame_bytes = bytes_per_frame(shape.channels, grid, scale.num_cameras, config.codec)
    megapixels, on_disk = (px[0] * px[1] / 1e6 for px in (config.image_size_px, scale.image_size_px))
    flop = 2 * shape.num_parameters * grid[0] * grid[1]
    image_s = 0.25 * megapixels + 0.03 * on_disk + flop / 50e9
    feeds_gpu = resources.device.startswith("cuda") and not resources.scheduler
    workers = 1 if feeds_gpu else max(1, resources.workers)  # one process feeds a GPU
    fit_s = min(config.fit_images, scale.num_cameras * num_frames) * image_s
    scenes_s = longest([length * scale.num_cameras * image_s for length in lengths], workers)
    memory_bytes = workers * (500e6 + 2e8 * megapixels * scale.num_cameras + 4 * shape.num_parameters)
    return Cost(num_frames * frame_bytes, round(memory_bytes), 1.0 + fit_s + scenes_s)


def feature_facts(config: Config, teacher: Teacher, index: FrameIndex) -> FeatureFacts:
    """Everything that is known before an image is read."""
    chosen = {scene for split in config.splits for scene in index.scenes(split)}
    if not chosen:
        there = list(index.splits())
        raise ConfigError(f"no scene in {config.splits}, the index has {there}", where="extract-features.splits")
    check_directions(config.codec, teacher.channels, where="extract-features.codec")
    return FeatureFacts(
        channels=teacher.channels,
        patch_px=teacher.patch_px,
        image_size_px=config.image_size_px,
        grid=patch_grid(config.image_size_px, teacher.patch_px),
        codec=config.codec,
        teacher=teacher.identity,
        cameras=index.facts.cameras,
        scenes=tuple(scene for scene in index.scenes() if scene in chosen),
    )


def patch_grid(image_size_px: tuple[int, int], patch_px: int) -> tuple[int, int]:
    """Rows and columns of patches.

    Raises:
        ConfigError: the size is not a positive multiple of the patch; names the nearest sizes that are.
    """
    if any(size <= 0 or size % patch_px for size in image_size_px):
        below = [max(size // patch_px, 1) * patch_px for size in image_size_px]
        above = [max(-(-size // patch_px), 1) * patch_px for size in image_size_px]
        raise ConfigError(
            f"{list(image_size_px)} is not a multiple of the teacher's patch of {patch_px} px",
            where="extract-features.image_size_px",
            remedy=f"the nearest sizes are {below} and {above}",
        )
    return image_size_px[0] // patch_px, image_size_px[1] // patch_px


def prepare_teacher(config: Config, opened: Opened, out: Location) -> None:
    """Fits the teacher, unless an earlier, killed run of this artifact did; nothing for a network."""
    path = out / TEACHER_STATE
    if is_file(path):
        return
    opened.teacher.fit(FitSample(opened, config))
    if state := opened.teacher.state():
        with appears_whole(path) as partial_path:
            save_file(state, partial_path)


def prepare_basis(config: Config, opened: Opened, out: Location) -> None:
    """Fits the basis of codec ``pca<D>``, unless an earlier, killed run of this artifact did."""
    directions = num_directions(config.codec)
    if directions is None or has_basis(out):
        return
    tokens = _tokens(opened.teacher, FitSample(opened, config))
    write_basis(out, fit_basis(tokens, opened.teacher.channels, directions))


def _tokens(teacher: Teacher, sample: "FitSample") -> Iterator[np.ndarray]:
    """Features (h, w, C) float32 of one image after the other.

    Raises:
        DataError: a feature is not finite.
    """
    for (frame, camera), image in zip(sample.sample, sample, strict=True):
        features = teacher.encode(image[None])[0].cpu().numpy()
        if not np.isfinite(features).all():
            where = f"frame {frame.token} of scene {frame.scene}, camera {camera.name}"
            raise DataError("the teacher's features are not finite", where=where, remedy="choose precision fp32")
        yield features


def fit_sample(index: FrameIndex, num_images: int) -> list[tuple[Frame, Camera]]:
    """Evenly spaced images of the train split, over frames and cameras.

    Raises:
        DataError: the train split has no image.
    """
    rows = index.rows("train")
    images = index.num_images()[rows]
    ends = np.cumsum(images)
    total = int(images.sum())
    if not total:
        raise DataError("the train split has no image to learn from", where=f"data set {index.facts.name}")
    count = min(num_images, total)
    chosen = (2 * np.arange(count) + 1) * total // (2 * count)
    of_frame = np.searchsorted(ends, chosen, side="right")
    place = chosen - (ends - images)[of_frame]  # among the images of its frame
    frames = index.at(rows[of_frame])
    return [(frame, [camera for camera in frame.cameras if camera][i]) for frame, i in zip(frames, place, strict=True)]


class FitSample(Sequence[torch.Tensor]):
    """Images (3, H, W) float32 in [0, 1], chosen and read when they are asked for: a network asks for none."""

    def __init__(self, opened: Opened, config: Config) -> None:
        self.opened, self.config = opened, config

    @cached_property
    def sample(self) -> list[tuple[Frame, Camera]]:
        """Which images.

        Raises:
            DataError: the train split has none.
        """
        return fit_sample(self.opened.index, self.config.fit_images)

    def __len__(self) -> int:
        return len(self.sample)

    def __getitem__(self, position: int) -> torch.Tensor:
        frame, camera = self.sample[position]
        return to_tensor(load_image(self.opened.dataset, frame, camera, self.config.image_size_px)[None])[0]


def write_features(opened: Opened, frames: Sequence[Frame], out: Location, num_loaders: int) -> None:
    """Encodes and writes one scene; row i of its arrays is the frame of index i."""
    assert [frame.index for frame in frames] == list(range(len(frames))), frames[0].scene
    facts = opened.facts
    load = partial(load_images, opened.dataset, size_px=facts.image_size_px)
    with write_scene(out, facts, frames[0].scene) as writer:
        for frame, images in zip(frames, ahead(load, frames, num_loaders), strict=True):
            has_image = np.array([camera is not None for camera in frame.cameras])
            features = np.zeros((len(has_image), *facts.grid, facts.channels), np.float32)
            if len(images):
                features[has_image] = opened.teacher.encode(to_tensor(images)).cpu().numpy()
            writer.append(features, has_image, frame.token)


def summary(store: FeatureStore) -> dict[str, Any]:
    """What ``lima show`` prints."""
    facts, scenes = store.facts, store.summaries()
    num_frames = sum(scene.num_frames for scene in scenes)
    frame_bytes = bytes_per_frame(facts.channels, facts.grid, len(facts.cameras), facts.codec)
    fidelity = store.fidelity()
    warning = fidelity_warning(facts.codec, fidelity)
    return {
        "teacher": facts.teacher,
        "channels": facts.channels,
        "grid": list(facts.grid),
        "codec": facts.codec,
        "fidelity": asdict(fidelity),
        **({"warning": warning} if warning else {}),
        "num_scenes": len(scenes),
        "num_frames": num_frames,
        "num_images": sum(scene.num_images for scene in scenes),
        "num_missing_images": sum(scene.num_missing_images for scene in scenes),
        "bytes_per_frame": frame_bytes,
        "feature_bytes": num_frames * frame_bytes,
    }
