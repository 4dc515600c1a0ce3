"""extract-features: images -> FeatureStore. The frozen teacher looks at every image once, ever."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field, model_validator
from safetensors.torch import load, save_file

from lima_core import types
from lima_core.cost import Cost, Scale
from lima_core.datasets import dataset_config, open_dataset
from lima_core.datasets.adapter import Dataset
from lima_core.errors import ConfigError, DataError, UserError
from lima_core.parallel import PartsProgress
from lima_core.storage import is_file, read_bytes
from lima_core.stores.basis import fit_basis, has_basis, write_basis
from lima_core.stores.codec import Codec, bytes_per_frame, check_directions, num_directions
from lima_core.stores.feature_store import FeatureFacts, FeatureStore, create_store, finish_store, unwritten_scenes
from lima_core.stores.feature_writer import write_scene
from lima_core.stores.fidelity import fidelity_warning
from lima_core.stores.frame_index import FrameIndex
from lima_core.teachers import FilterbankConfig, Teacher, TeacherConfig, build_teacher
from lima_core.training.prefetch import ahead
from lima_core.types import Camera, Frame, Resources
from lima_core.whole import appears_whole

VERSION = 3
REMOTE = True
"""Its artifact is written and read where it lies, be that a URL (``pipeline.places``)."""
TEACHER_STATE = "teacher.safetensors"


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


def run(config: Config, inputs: Inputs, out: Path, resources: Resources) -> dict[str, Any]:
    """Writes the store scene by scene; scenes that an earlier, killed run completed are kept.

    Raises:
        ConfigError: the image size is not a multiple of the patch, the codec asks for more directions than the teacher
            has channels, or no scene is in the splits.
        DataError: an image is missing, truncated or of another size than its calibration says.
    """
    index = FrameIndex.open(inputs.index)
    dataset = open_dataset(dataset_config(index.dataset), inputs.raw)
    teacher = build_teacher(_located(config.teacher, inputs.weights), resources.device)
    facts = feature_facts(config, teacher, index)
    create_store(out, facts)
    prepare_teacher(config, teacher, dataset, index, out)
    prepare_basis(config, teacher, dataset, index, out)
    missing = unwritten_scenes(out, facts)
    with PartsProgress("extract-features", len(missing)) as progress:
        for scene in missing:
            write_features(facts, teacher, dataset, index.frames(scene), out, resources.workers)
            progress.advance()
    told = summary(finish_store(out))
    if "warning" in told:
        print(f"extract-features: warning: {told['warning']}", file=sys.stderr, flush=True)
    return told


def _located(teacher: TeacherConfig, weights: Path | None) -> TeacherConfig:
    return teacher if weights is None else teacher.model_copy(update={"model": str(weights)})


def estimate(config: Config, scale: Scale) -> Cost:
    """Disk, memory and time on one core; patch and channels as the teacher's config says, without loading it."""
    teacher = config.teacher
    if not isinstance(teacher, FilterbankConfig):
        return Cost()
    grid = config.image_size_px[0] // teacher.patch_px, config.image_size_px[1] // teacher.patch_px
    frame_bytes = bytes_per_frame(teacher.channels, grid, scale.num_cameras, config.codec)
    megapixels = scale.num_cameras * config.image_size_px[0] * config.image_size_px[1] / 1e6
    on_disk = scale.num_cameras * scale.image_size_px[0] * scale.image_size_px[1] / 1e6
    seconds = scale.num_frames * (0.25 * megapixels + 0.03 * on_disk)
    return Cost(scale.num_frames * frame_bytes, 500_000_000 + round(2e8 * megapixels), seconds)


def feature_facts(config: Config, teacher: Teacher, index: FrameIndex) -> FeatureFacts:
    """Everything that is known before an image is read."""
    chosen = {scene for split in config.splits for scene in index.scenes(split)}
    if not chosen:
        splits = sorted({frame.split for frame in index.frames()})
        raise ConfigError(f"no scene in {config.splits}, the index has {splits}", where="extract-features.splits")
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


def prepare_teacher(config: Config, teacher: Teacher, dataset: Dataset, index: FrameIndex, out: Path) -> None:
    """Fits the teacher, or takes what an earlier, killed run of this artifact fitted; nothing for a network."""
    path = out / TEACHER_STATE
    if is_file(path):
        teacher.load_state(load(read_bytes(path)))
        return
    sample = FitSample(dataset, fit_sample(index, config.fit_images), config.image_size_px)
    teacher.fit(sample)
    if state := teacher.state():
        with appears_whole(path) as partial_path:
            save_file(state, partial_path)


def prepare_basis(config: Config, teacher: Teacher, dataset: Dataset, index: FrameIndex, out: Path) -> None:
    """Fits the basis of codec ``pca<D>``, unless an earlier, killed run of this artifact did."""
    directions = num_directions(config.codec)
    if directions is None or has_basis(out):
        return
    sample = FitSample(dataset, fit_sample(index, config.fit_images), config.image_size_px)
    write_basis(out, fit_basis(_tokens(teacher, sample), teacher.channels, directions))


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
    images = [(frame, camera) for frame in index.frames(split="train") for camera in frame.cameras if camera]
    if not images:
        raise DataError("the train split has no image to learn from", where=f"data set {index.facts.name}")
    count = min(num_images, len(images))
    return [images[(2 * i + 1) * len(images) // (2 * count)] for i in range(count)]


class FitSample(Sequence[torch.Tensor]):
    """Images that are read when they are asked for, (3, H, W) float32 in [0, 1]."""

    def __init__(self, dataset: Dataset, sample: list[tuple[Frame, Camera]], size_px: tuple[int, int]) -> None:
        self.dataset, self.sample, self.size_px = dataset, sample, size_px

    def __len__(self) -> int:
        return len(self.sample)

    def __getitem__(self, position: int) -> torch.Tensor:
        frame, camera = self.sample[position]
        return to_tensor(load_image(self.dataset, frame, camera, self.size_px)[None])[0]


def write_features(
    facts: FeatureFacts, teacher: Teacher, dataset: Dataset, frames: Sequence[Frame], out: Path, workers: int
) -> None:
    """Encodes and writes one scene; row i of its arrays is the frame of index i."""
    assert [frame.index for frame in frames] == list(range(len(frames))), frames[0].scene
    load = partial(load_images, dataset, size_px=facts.image_size_px)
    with write_scene(out, facts, frames[0].scene) as writer:
        for frame, images in zip(frames, ahead(load, frames, workers), strict=True):
            has_image = np.array([camera is not None for camera in frame.cameras])
            features = np.zeros((len(has_image), *facts.grid, facts.channels), np.float32)
            if len(images):
                features[has_image] = teacher.encode(to_tensor(images)).cpu().numpy()
            writer.append(features, has_image, frame.token)


def load_images(dataset: Dataset, frame: Frame, size_px: tuple[int, int]) -> np.ndarray:
    """Images of the cameras that have one, (cameras, H, W, 3) uint8, in rig order."""
    images = [load_image(dataset, frame, camera, size_px) for camera in frame.cameras if camera]
    return np.stack(images) if images else np.empty((0, *size_px, 3), np.uint8)


def load_image(dataset: Dataset, frame: Frame, camera: Camera, size_px: tuple[int, int]) -> np.ndarray:
    """One image at the teacher's size, (H, W, 3) uint8; resized with a triangle filter as wide as the reduction.

    Raises:
        DataError: the image cannot be read; names file, frame and camera.
    """
    try:
        image = Image.fromarray(dataset.load_image(camera))
    except UserError as error:
        where = f"frame {frame.token} of scene {frame.scene}, camera {camera.name}"
        remedy = "or leave the frame out and rebuild the index"
        raise DataError(str(error), where=where, remedy=remedy) from error
    height, width = size_px
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """(B, 3, H, W) float32 in [0, 1] of (B, H, W, 3) uint8."""
    return torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float().div_(255)


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
