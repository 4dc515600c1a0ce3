"""materialize: resumable by scene to the same bytes, and a student taught from it is the one taught from references."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from lima_core.cost import Cost, Scale, SceneScale
from lima_core.errors import ConfigError, StoreError, UserError
from lima_core.memory.cross_sequence import CrossSequenceConfig
from lima_core.memory.targets import PooledTargets
from lima_core.methods.lima import LimaConfig
from lima_core.stores.materialised_bank import SceneWriter
from lima_core.teachers import HuggingFaceConfig
from lima_core.training.checkpoint import read_meta
from lima_core.training.loop import FitConfig
from lima_core.training.optim import AdamWConfig
from lima_core.training.shuffle import ShuffleBlocks
from lima_core.types import Resources
from stages import build_memory, distill, extract_features, materialize
from tests.stages.small_run import BACKBONE, VOXELS, Artifacts, artifacts
from tests.stages.trees import tree


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    return artifacts(tmp_path_factory.mktemp("drive"))


def build(built: Artifacts, out: Path, workers: int = 0, **kwargs: object) -> dict:
    out.mkdir(exist_ok=True)
    inputs = materialize.Inputs(built.features, built.memory)
    return materialize.run(materialize.Config(**kwargs), inputs, out, Resources(workers=workers))


def train(
    built: Artifacts, out: Path, stored: Path | None, blocks: ShuffleBlocks | None = None, **method: object
) -> dict:
    out.mkdir()
    fit = FitConfig(steps=5, batch_size=2, optimiser=AdamWConfig(lr=0.01), shuffle_blocks=blocks)
    config = distill.Config(method=LimaConfig(**method), backbone=BACKBONE, voxels=VOXELS, fit=fit)
    references = (built.features, built.memory) if stored is None else (None, None)
    return distill.run(config, distill.Inputs(built.raw, built.index, *references, stored), out, Resources())


def curve(out: Path) -> list[float]:
    return pq.read_table(out / "curve.parquet")["loss"].to_pylist()


@pytest.mark.parametrize("codec", ["int8", "pca6"])
def test_a_run_killed_between_scenes_continues_to_the_same_bytes(
    built: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    expected = build(built, tmp_path / "whole", codec=codec)
    real, appended = SceneWriter.append, []

    def dies_in_the_second_scene(self: SceneWriter, *frame: object) -> None:
        if len(appended) == 8:
            raise KeyboardInterrupt
        appended.append(frame)
        real(self, *frame)

    monkeypatch.setattr(SceneWriter, "append", dies_in_the_second_scene)
    with pytest.raises(KeyboardInterrupt):
        build(built, tmp_path / "stopped", codec=codec)
    monkeypatch.setattr(SceneWriter, "append", real)
    assert build(built, tmp_path / "stopped", codec=codec) == expected
    assert tree(tmp_path / "stopped") == tree(tmp_path / "whole")


def job(built: Artifacts, out: Path, device: str = "cpu") -> materialize.Job:
    inputs = materialize.Inputs(built.features, built.memory)
    return materialize.Job(materialize.Config(), inputs, out, device)


def test_a_worker_that_finds_other_features_writes_nothing(built: Artifacts, tmp_path: Path) -> None:
    here = job(built, tmp_path / "out")
    expected = replace(materialize.begun(materialize.opened(here).facts), teacher="other weights")
    line = r"^worker on .*: finds targets of .*, this store was begun with 'other weights' over 3 frames; give every"
    with pytest.raises(StoreError, match=line):
        materialize.pool_scene(here, expected, "a")
    assert not (tmp_path / "out").exists()


def test_what_goes_with_every_scene_does_not_grow_with_their_number(
    built: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[object] = []
    monkeypatch.setattr(materialize, "map_parts", lambda work, parts, *_, **__: sent.append((work, parts)))
    monkeypatch.setattr(materialize.MaterialisedBank, "open", lambda path: pytest.fail("no further"))
    with pytest.raises(pytest.fail.Exception, match="no further"):
        build(built, tmp_path / "out")
    ((work, parts),) = sent
    assert parts == ["a", "b"] and work.args[1].scenes == ()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_worker_without_the_gpu_that_it_declares_is_told(built: Artifacts, tmp_path: Path) -> None:
    here = job(built, tmp_path / "out", "cuda")
    expected = materialize.begun(materialize.opened(replace(here, device="cpu")).facts)
    with pytest.raises(ConfigError, match=r"^worker on .*: declares the resource GPU, but torch sees none; start it"):
        materialize.pool_scene(here, expected, "a")


def test_a_full_gpu_is_one_line(built: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(PooledTargets, "features", full)
    with pytest.raises(UserError, match=r"^scene a: out of GPU memory \(CUDA out of memory\); free the GPU of other"):
        build(built, tmp_path / "out")


@pytest.mark.slow
def test_workers_change_no_byte(built: Artifacts, tmp_path: Path) -> None:
    assert build(built, tmp_path / "one") == build(built, tmp_path / "two", workers=2)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_the_summary_says_what_was_pooled_and_what_it_lost(built: Artifacts, tmp_path: Path) -> None:
    told = {codec: build(built, tmp_path / codec, codec=codec) for codec in ("float16", "int8", "pca4")}
    for codec, summary in told.items():
        assert (summary["codec"], summary["window"], summary["frames"]) == (codec, 3, 12)
        assert "filterbank" in summary["teacher"] and summary["targets_per_frame"] > 10
    cosines = [told[codec]["fidelity"]["mean_cosine"] for codec in ("float16", "int8", "pca4")]
    assert cosines[0] > 1 - 1e-6 and cosines[1] > 0.999 and cosines[1] > cosines[2]
    assert told["int8"]["targets_per_frame"] == told["float16"]["targets_per_frame"]


def test_a_window_that_the_bank_cannot_serve_and_too_many_directions_are_refused(
    built: Artifacts, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match="was built for 3 frames and cannot serve 4"):
        build(built, tmp_path / "long", frames=4)
    with pytest.raises(ConfigError, match=r"materialize\.codec: codec pca999 of a teacher with"):
        build(built, tmp_path / "wide", codec="pca999")


@pytest.mark.parametrize("regions", ["none", "frustum"])
def test_students_of_either_cache_learn_the_same(built: Artifacts, tmp_path: Path, regions: str) -> None:
    method = {"cross_sequence": CrossSequenceConfig(regions=regions, probability=1.0)}
    summary = train(built, tmp_path / "references", None, **method)
    exact = curve(tmp_path / "references")
    for codec, first, later in (("float16", 1e-5, 2e-3), ("int8", 1e-3, 1e-2)):  # steps magnify the difference
        build(built, tmp_path / codec, codec=codec)
        told = train(built, tmp_path / f"student-{codec}", tmp_path / codec, **method)
        losses = curve(tmp_path / f"student-{codec}")
        assert losses[0] == pytest.approx(exact[0], abs=first) and losses == pytest.approx(exact, abs=later)
        assert (told["teacher"], told["window"]) == (summary["teacher"], summary["window"])
        assert read_meta(tmp_path / f"student-{codec}/backbone")["window"] == 3


def test_a_method_that_wants_other_targets_is_told(built: Artifacts, tmp_path: Path) -> None:
    build(built, tmp_path / "stored")
    with pytest.raises(ConfigError, match="targets were pooled over 3 frames, the method wants 2"):
        train(built, tmp_path / "student", tmp_path / "stored", frames=2)


def test_blocks_train_too_and_in_another_order(built: Artifacts, tmp_path: Path) -> None:
    train(built, tmp_path / "frames", None)
    train(built, tmp_path / "blocks", None, ShuffleBlocks(frames=2, mixed=2))
    assert curve(tmp_path / "frames") != curve(tmp_path / "blocks")


def test_the_estimate_is_of_the_teacher_and_of_the_scenes_that_are_pooled() -> None:
    """Of 30 frames, 10 are in bank and features; ViT-B has 768 channels."""
    scale = Scale((SceneScale(train=10), SceneScale(val=20)), num_cameras=6, num_points=1000, image_size_px=(90, 160))
    teacher = HuggingFaceConfig(model="facebook/dinov2-base")
    reads = {
        "extract_features": extract_features.Config(teacher=teacher, splits=("train",)),
        "build_memory": build_memory.Config(splits=("train", "val")),
    }
    config, resources = materialize.Config(codec="int8"), Resources()
    found = materialize.estimate(config, materialize.reaching(scale, reads), resources)
    assert found.disk_bytes == pytest.approx(10 * 1000 * 0.55 * 768, rel=0.02)
    unknown = reads | {"extract_features": extract_features.Config(teacher=HuggingFaceConfig(model="some/network"))}
    assert materialize.estimate(config, materialize.reaching(scale, unknown), resources) == Cost()
