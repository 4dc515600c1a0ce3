"""distill: it learns, stops and continues to the same bytes, and every mechanism can be switched off."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from lima_core.errors import CheckpointError, StoreError
from lima_core.loading.limits import LimitsConfig
from lima_core.loading.pretrain import PretrainBatch
from lima_core.memory.cross_sequence import CrossSequenceConfig
from lima_core.methods.lima import Lima, LimaConfig
from lima_core.models import build_backbone
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.models.pretrained import fill
from lima_core.training.checkpoint import read_meta
from lima_core.training.loop import FitConfig
from lima_core.training.optim import AdamWConfig
from lima_core.types import Resources
from stages import distill
from tests.stages.small_run import BACKBONE, VOXELS, Artifacts, artifacts
from tests.stages.trees import tree


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    return artifacts(tmp_path_factory.mktemp("drive"))


def train(built: Artifacts, out: Path, steps: int = 6, **method: object) -> dict:
    out.mkdir(exist_ok=True)
    fit = FitConfig(steps=steps, batch_size=2, optimiser=AdamWConfig(lr=0.01))
    config = distill.Config(method=LimaConfig(**method), backbone=BACKBONE, voxels=VOXELS, fit=fit)
    inputs = distill.Inputs(built.raw, built.index, built.features, built.memory)
    return distill.run(config, inputs, out, Resources())


def test_the_loss_falls_and_the_checkpoint_says_what_it_is(built: Artifacts, tmp_path: Path) -> None:
    summary = train(built, tmp_path / "out", steps=25)
    assert summary["last_loss"] < summary["first_loss"] - 0.02
    assert summary["window"] == 3 and "filterbank" in summary["teacher"]
    meta = read_meta(tmp_path / "out/backbone")
    assert meta["kind"] == "backbone" and meta["method"] == "lima" and meta["in_channels"] == 4
    fill(build_backbone(BACKBONE, 4), meta, tmp_path / "out/backbone")


def test_a_checkpoint_of_another_architecture_is_refused(built: Artifacts, tmp_path: Path) -> None:
    train(built, tmp_path / "out", steps=1)
    wider = MinkUNetConfig(**{**BACKBONE.model_dump(), "stem": 8})
    with pytest.raises(CheckpointError, match=r"weights of another architecture: .* is "):
        fill(build_backbone(wider, 4), {}, tmp_path / "out/backbone")


def test_a_killed_run_continues_to_the_same_bytes(
    built: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(built, tmp_path / "whole")
    real, calls = Lima.loss, []

    def dies_in_the_fourth_step(self: Lima, batch: PretrainBatch) -> tuple[torch.Tensor, dict[str, float]]:
        calls.append(batch)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, batch)

    monkeypatch.setattr("lima_core.training.loop._Pacer.saved", lambda self, seconds: None)
    monkeypatch.setattr("lima_core.training.loop.time.monotonic", iter(range(0, 10**9, 60)).__next__)
    monkeypatch.setattr(Lima, "loss", dies_in_the_fourth_step)
    with pytest.raises(KeyboardInterrupt):
        train(built, tmp_path / "stopped")
    monkeypatch.undo()
    assert (tmp_path / "stopped/resume").exists()
    train(built, tmp_path / "stopped")
    assert tree(tmp_path / "stopped") == tree(tmp_path / "whole")


def test_every_mechanism_changes_the_result_when_switched_off(built: Artifacts, tmp_path: Path) -> None:
    off = CrossSequenceConfig(regions="none")
    losses = [
        train(built, tmp_path / "lima", 2)["last_loss"],
        train(built, tmp_path / "no_mixing", 2, cross_sequence=off)["last_loss"],
        train(built, tmp_path / "one_frame", 2, cross_sequence=off, frames=1)["last_loss"],
        train(built, tmp_path / "base", 2, cross_sequence=off, frames=1, cross_view="first")["last_loss"],
    ]
    assert len(set(losses[:3])) == 3


def test_a_longer_window_than_the_bank_is_refused(built: Artifacts, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="was built for 3 frames and cannot serve 4"):
        train(built, tmp_path / "out", frames=4)


def test_bounds_are_kept_and_what_they_leave_out_is_in_the_curve(built: Artifacts, tmp_path: Path) -> None:
    dropped = {}
    for name, limits in (
        ("none", None),
        ("points", LimitsConfig(max_points=60)),
        ("voxels", LimitsConfig(max_voxels=9)),
    ):
        out = tmp_path / name
        out.mkdir()
        config = distill.Config(
            method=LimaConfig(cross_sequence=CrossSequenceConfig(regions="none")),
            backbone=BACKBONE,
            voxels=VOXELS,
            fit=FitConfig(steps=2, batch_size=2),
            limits=limits,
        )
        distill.run(config, distill.Inputs(built.raw, built.index, built.features, built.memory), out, Resources())
        curve = pq.read_table(out / "curve.parquet").to_pydict()
        dropped[name] = curve.get("dropped_points")
    assert dropped["none"] is None
    assert dropped["points"] == [2 * (200 - 60)] * 2  # scans of 200 points
    assert all(0 < number < 400 for number in dropped["voxels"])
