"""extract-features: what a reader of the store gets, resumption, images that cannot be used."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from lima_core.cost import Scale, SceneScale
from lima_core.datasets import dataset_config, open_dataset
from lima_core.errors import ConfigError, DataError, StoreError, UserError
from lima_core.stores.feature_store import FOLDER, FeatureStore
from lima_core.stores.frame_index import FrameIndex
from lima_core.teachers import FilterbankConfig, HuggingFaceConfig, build_teacher
from lima_core.teachers.huggingface import HuggingFaceTeacher
from lima_core.types import Resources
from pipeline.config import override
from stages import extract_features
from stages.extract_features import Config, Inputs, estimate, fit_sample, run
from tests.lima_core.datasets.tiny_folder import NUM_FRAMES, write_tiny_folder

CONFIG = Config(
    teacher=FilterbankConfig(channels=8),
    image_size_px=(16, 24),
    fit_images=5,
    splits=("train", "val", "none"),
)
RANDOM_VIT = HuggingFaceConfig(random_init=True, architecture="dinov2-tiny")


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    """Two scenes of six frames, two cameras, no side image in the second frame."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "index").mkdir()
    config = dataset_config({"name": "folder"})
    dataset = open_dataset(config, write_tiny_folder(tmp_path / "raw"))
    frames = [frame for scene in dataset.scenes() for frame in dataset.frames(scene)]
    FrameIndex.write(tmp_path / "index", frames, dataset.facts, config.model_dump(mode="json"))
    return Inputs(tmp_path / "raw", tmp_path / "index")


def out_folder(tmp_path: Path, name: str = "out") -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def with_codec(codec: str) -> Config:
    return Config(**{**dict(CONFIG), "codec": codec})


def image_path(inputs: Inputs, scene: str, frame: int, camera: int) -> Path:
    camera_of_frame = FrameIndex.open(inputs.index).frames(scene)[frame].cameras[camera]
    assert camera_of_frame
    return inputs.raw / camera_of_frame.image


def test_summary_and_facts(inputs: Inputs, tmp_path: Path) -> None:
    out = out_folder(tmp_path)
    summary = run(CONFIG, inputs, out, Resources())
    assert "fixed filters" in summary["teacher"]
    assert (summary["num_scenes"], summary["num_frames"]) == (2, 2 * NUM_FRAMES)
    assert (summary["num_images"], summary["num_missing_images"]) == (4 * NUM_FRAMES - 2, 2)
    assert summary["fidelity"]["mean_cosine"] > 0.9999 and summary["fidelity"]["centred_mean_cosine"] > 0.999
    assert summary["bytes_per_frame"] == 2 * 2 * 3 * (8 + 4) and "warning" not in summary
    facts = FeatureStore.open(out).facts
    assert (facts.grid, facts.patch_px, facts.channels, facts.scenes) == ((2, 3), 8, 8, ("a", "b"))
    assert facts.cameras == FrameIndex.open(inputs.index).facts.cameras


@pytest.mark.parametrize("teacher", [FilterbankConfig(channels=8), RANDOM_VIT], ids=["filterbank", "huggingface"])
def test_stored_features_are_the_teachers_of_the_resized_image(
    inputs: Inputs, tmp_path: Path, teacher: FilterbankConfig | HuggingFaceConfig
) -> None:
    out, size = out_folder(tmp_path), (28, 56) if teacher == RANDOM_VIT else (16, 24)
    run(Config(**{**dict(CONFIG), "teacher": teacher, "image_size_px": size}), inputs, out, Resources())
    expected = build_teacher(teacher)
    if (out / "teacher.safetensors").exists():
        expected.load_state(load_file(out / "teacher.safetensors"))
    pixels = Image.open(image_path(inputs, "b", 3, 1)).convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR)
    image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None] / 255
    exact = expected.encode(image)[0]
    store = FeatureStore.open(out)
    stored = store.read("b", 3, 4).table().reshape(2, *store.facts.grid, -1)[1]
    assert torch.nn.functional.cosine_similarity(stored, exact, dim=-1).min() > 0.999


def test_camera_without_image_has_no_features(inputs: Inputs, tmp_path: Path) -> None:
    out = out_folder(tmp_path)
    run(CONFIG, inputs, out, Resources())
    patches = FeatureStore.open(out).read("a", 0, NUM_FRAMES)
    cameras = [frame.cameras for frame in FrameIndex.open(inputs.index).frames("a")]
    np.testing.assert_array_equal(patches.has_image, [[c is not None for c in rig] for rig in cameras])
    assert (~patches.has_image).sum() == 1
    assert (patches.codes[~patches.has_image] == 0).all()
    assert (np.abs(patches.codes[patches.has_image].astype(int)).max(axis=-1) > 0).all()


def test_processes_do_not_change_a_byte(inputs: Inputs, tmp_path: Path) -> None:
    alone, beside = out_folder(tmp_path, "alone"), out_folder(tmp_path, "beside")
    run(CONFIG, inputs, alone, Resources())
    run(CONFIG, inputs, beside, Resources(workers=3))
    assert files(alone) == files(beside)


def test_threads_of_this_process_do_not_change_a_byte(inputs: Inputs, tmp_path: Path) -> None:
    one, two, config = out_folder(tmp_path, "one"), out_folder(tmp_path, "two"), with_codec("pca3")
    run(config, inputs, one, Resources())
    torch.set_num_threads(2)
    try:
        run(config, inputs, two, Resources())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert files(one) == files(two)


@pytest.mark.parametrize("codec", ["int8", "pca3"])
def test_resumed_run_is_byte_for_byte_the_undisturbed_one(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    undisturbed, out, config = out_folder(tmp_path, "undisturbed"), out_folder(tmp_path), with_codec(codec)
    run(config, inputs, undisturbed, Resources())
    original = extract_features.load_images

    def stopped(dataset: Any, frame: Any, **kwargs: Any) -> np.ndarray:
        if (frame.scene, frame.index) == ("b", 3):
            raise KeyboardInterrupt
        return original(dataset, frame, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(extract_features, "load_images", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(config, inputs, out, Resources())
    assert (out / FOLDER / "a").is_dir() and not (out / FOLDER / "b").exists()
    written = (out / "features.zarr/a/codes/zarr.json").stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(extract_features, "fit_sample", lambda *_: pytest.fail("the basis was fitted a second time"))
        run(config, inputs, out, Resources())
    assert (out / "features.zarr/a/codes/zarr.json").stat().st_mtime_ns == written
    assert files(out) == files(undisturbed)


def test_killed_between_teacher_and_basis_fits_the_same_basis(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, out, config = out_folder(tmp_path, "undisturbed"), out_folder(tmp_path), with_codec("pca3")
    run(config, inputs, undisturbed, Resources())
    with monkeypatch.context() as patch:
        patch.setattr(extract_features, "write_basis", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(config, inputs, out, Resources())
    assert (out / "teacher.safetensors").exists() and not (out / "basis.zarr").exists()
    run(config, inputs, out, Resources())
    assert files(out) == files(undisturbed)


def test_basis_is_fitted_to_images_of_the_train_split(inputs: Inputs, tmp_path: Path) -> None:
    config, out = with_codec("pca3"), out_folder(tmp_path)
    run(config, inputs, out, Resources())
    index = FrameIndex.open(inputs.index)
    dataset = open_dataset(dataset_config(index.dataset), inputs.raw)
    teacher = build_teacher(config.teacher)
    teacher.load_state(load_file(out / "teacher.safetensors"))
    sample = extract_features.FitSample(extract_features.Opened(index, dataset, teacher, None), config)
    rows = np.concatenate([teacher.encode(image[None]).reshape(-1, 8).numpy() for image in sample]).astype(float)
    axes = np.linalg.svd(rows / np.linalg.norm(rows, axis=1, keepdims=True))[2][:3]
    stored = FeatureStore.open(out).read("a", 0, 1).basis
    np.testing.assert_allclose(np.abs((stored * axes).sum(axis=1)), 1, atol=1e-4)


def test_too_few_directions_are_warned_of(inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = run(with_codec("pca1"), inputs, out_folder(tmp_path, "bad"), Resources())
    assert bad["warning"].startswith("codec pca1 bends the teacher's features: cosine mean 0.")
    assert bad["warning"].endswith("below 0.95; choose pca<D> with D above 1, or int8")
    assert f"extract-features: warning: {bad['warning']}\n" in capsys.readouterr().err
    good = run(with_codec("pca8"), inputs, out_folder(tmp_path, "good"), Resources())
    assert "warning" not in good and "warning" not in capsys.readouterr().err
    assert good["fidelity"]["p1_cosine"] > 0.999 and good["bytes_per_frame"] - bad["bytes_per_frame"] == 7 * 12


@pytest.mark.parametrize(
    ("assignment", "line"),
    [
        ("codec=pca9", "--set: codec pca9 of a teacher with 8 channels; choose pca<D> with D from 1 to 8, or int8"),
        ("codec=pca0", "--set: codec: 'pca0' is not known; "),
        ("codec=flaot16", "--set: codec: 'flaot16' is not known; did you mean 'float16'? known: float16, int8, "),
        ("codec=8", "--set: codec: expected a valid string, got 8 (a number)"),
    ],
)
def test_codec_that_cannot_be_is_told_before_work_starts(assignment: str, line: str) -> None:
    with pytest.raises(ConfigError) as raised:
        override(CONFIG, [assignment])
    assert str(raised.value).startswith(line) and "\n" not in str(raised.value)
    assert override(CONFIG, ["codec=pca8"]).codec == "pca8"


def test_more_directions_than_a_network_has_channels(inputs: Inputs, tmp_path: Path) -> None:
    config = Config(teacher=RANDOM_VIT, image_size_px=(28, 28), codec="pca33")
    with pytest.raises(ConfigError, match=r"extract-features\.codec: codec pca33 of a teacher with 32 channels"):
        run(config, inputs, out_folder(tmp_path), Resources())


def test_estimate_knows_the_bytes_of_every_codec() -> None:
    scale = Scale((SceneScale(train=10),), num_cameras=2, num_points=1, image_size_px=(16, 24))
    found = {codec: estimate(with_codec(codec), scale, Resources()).disk_bytes for codec in ("float16", "int8", "pca3")}
    assert found == {"float16": 10 * 12 * 16, "int8": 10 * 12 * 12, "pca3": 10 * 12 * 7}


def test_other_weights_under_the_same_name_do_not_mix(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = out_folder(tmp_path)
    config = Config(teacher=RANDOM_VIT, image_size_px=(28, 28), splits=("train", "val", "none"))
    run(config, inputs, out, Resources())
    monkeypatch.setattr("lima_core.teachers.huggingface._identity", lambda *_: "other weights")
    with pytest.raises(StoreError, match="now it is 'other weights'"):
        run(config, inputs, out, Resources())


def test_worker_with_other_weights_writes_nothing(inputs: Inputs, tmp_path: Path) -> None:
    out = out_folder(tmp_path)
    job = extract_features.Job(CONFIG, inputs, out, "cpu", 0)
    with pytest.raises(StoreError, match=r"has teacher .*, this store was begun with 'other weights'"):
        extract_features.extract_scene(job, "other weights", "a")
    assert files(out) == {}


def test_only_scenes_of_the_splits(inputs: Inputs, tmp_path: Path) -> None:
    index = FrameIndex.open(inputs.index)
    frames = [
        type(frame)(**{**vars(frame), "split": "val" if frame.scene == "a" else "train"}) for frame in index.frames()
    ]
    FrameIndex.write(inputs.index, frames, index.facts, index.dataset)
    config = CONFIG.model_copy(update={"splits": ("train",)})
    assert run(config, inputs, out_folder(tmp_path), Resources())["num_scenes"] == 1
    assert FeatureStore.open(tmp_path / "out").scenes() == ("b",)
    with pytest.raises(ConfigError, match="no scene in"):
        run(CONFIG.model_copy(update={"splits": ("none",)}), inputs, out_folder(tmp_path, "none"), Resources())


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("camera", [0, 1], ids=["jpg", "png"])
def test_truncated_image_is_named(inputs: Inputs, tmp_path: Path, workers: int, camera: int) -> None:
    path = image_path(inputs, "b", 4, camera)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    out, config = out_folder(tmp_path), CONFIG.model_copy(update={"fit_images": 1})
    with pytest.raises(DataError) as raised:
        run(config, inputs, out, Resources(workers=workers))
    frame = FrameIndex.open(inputs.index).frames("b")[4]
    for part in (frame.token, "scene b", f"camera {FrameIndex.open(inputs.index).facts.cameras[camera]}", str(path)):
        assert part in str(raised.value)
    assert "copy the file again" in str(raised.value) and "\n" not in str(raised.value)
    assert (out / FOLDER / "a").is_dir() and not (out / FOLDER / "b").exists()


def test_missing_image_is_named(inputs: Inputs, tmp_path: Path) -> None:
    image_path(inputs, "a", 1, 0).unlink()
    with pytest.raises(DataError, match=r"frame .* of scene a, camera front: .*000001\.jpg: cannot be read: No such"):
        run(CONFIG, inputs, out_folder(tmp_path), Resources())


def test_size_that_is_no_multiple_of_the_patch_names_the_nearest(inputs: Inputs, tmp_path: Path) -> None:
    config = Config(teacher=RANDOM_VIT, image_size_px=(225, 448), splits=("train", "val", "none"))
    with pytest.raises(ConfigError, match=r"nearest sizes are \[224, 448\] and \[238, 448\]"):
        run(config, inputs, out_folder(tmp_path), Resources())


def test_a_network_needs_no_image_of_the_train_split(inputs: Inputs, tmp_path: Path) -> None:
    index = FrameIndex.open(inputs.index)
    frames = [replace(frame, split="val") for frame in index.frames()]
    FrameIndex.write(inputs.index, frames, index.facts, index.dataset)
    config = Config(teacher=RANDOM_VIT, image_size_px=(28, 28), splits=("val",))
    assert run(config, inputs, out_folder(tmp_path), Resources())["num_scenes"] == 2
    with pytest.raises(DataError, match="the train split has no image to learn from"):
        run(CONFIG, inputs, out_folder(tmp_path, "fitted"), Resources())


def test_a_full_gpu_is_one_line(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(HuggingFaceTeacher, "encode", full)
    config = Config(teacher=RANDOM_VIT, image_size_px=(28, 28))
    line = r"^scene a: out of GPU memory \(CUDA out of memory\); free the GPU .*lower extract-features\.image_size_px"
    with pytest.raises(UserError, match=line):
        run(config, inputs, out_folder(tmp_path), Resources())


def test_fit_sample_is_spread_evenly(inputs: Inputs) -> None:
    index = FrameIndex.open(inputs.index)
    frames = [type(frame)(**{**vars(frame), "split": "train"}) for frame in index.frames()]
    index = FrameIndex.write(inputs.index, frames, index.facts, index.dataset)
    everything = [(f.token, c.name) for f in frames for c in f.cameras if c]
    four = [(f.token, c.name) for f, c in fit_sample(index, 4)]
    positions = [everything.index(one) for one in four]
    assert positions == [2, 8, 13, 19]
    assert [(f.token, c.name) for f, c in fit_sample(index, 999)] == everything


def test_fit_sample_reads_no_frame_but_those_it_takes(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The images are those of a list of all, frames of other splits and missing cameras left out."""
    index = FrameIndex.open(inputs.index)
    images = [(f.token, c.name) for f in index.frames(split="train") for c in f.cameras if c]
    monkeypatch.setattr(FrameIndex, "frames", lambda *_, **__: pytest.fail("built every frame"))
    for wanted in range(1, len(images) + 2):
        count = min(wanted, len(images))
        expected = [images[(2 * i + 1) * len(images) // (2 * count)] for i in range(count)]
        assert [(f.token, c.name) for f, c in fit_sample(index, wanted)] == expected


@pytest.mark.real
@pytest.mark.parametrize(
    ("folder", "dataset"),
    [("nuscenes", {"name": "nuscenes", "version": "v1.0-mini"}), ("pandaset", {"name": "folder"})],
)
def test_real_images(real_data: Path, tmp_path: Path, folder: str, dataset: dict[str, str]) -> None:
    if not (real_data / folder).is_dir():
        pytest.skip(f"LIMA_TEST_DATA holds no {folder}")
    config = dataset_config(dataset)
    opened = open_dataset(config, real_data / folder)
    frames = opened.frames(opened.scenes()[0])[:2]
    index = out_folder(tmp_path, "index")
    FrameIndex.write(index, frames, opened.facts, config.model_dump(mode="json"))
    out = out_folder(tmp_path)
    extraction = Config(image_size_px=(224, 400), splits=("train", "val", "none"), fit_images=6)
    summary = run(extraction, Inputs(real_data / folder, index), out, Resources())
    assert summary["num_images"] == 6 * len(frames) and summary["fidelity"]["p1_cosine"] > 0.9999
    table = FeatureStore.open(out).read(frames[0].scene, 0, len(frames)).table()
    unit = torch.nn.functional.normalize(table, dim=1)
    assert unit.mean(0).norm() < 0.5  # mean-centred: directions differ
