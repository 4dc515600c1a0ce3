"""The loop: exact resume, independence of workers, accumulation, and what it says when a loss is not finite."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from lima_core.errors import CheckpointError, UserError
from lima_core.seeds import torch_rng
from lima_core.training import loop
from lima_core.training.loop import FitConfig, finish, fit
from lima_core.training.objective import Objective
from lima_core.training.optim import AdamWConfig, ConstantConfig, ParamGroup, SGDConfig
from lima_core.types import Resources

CPU = Resources()


@dataclass(frozen=True)
class Pairs:
    """Inputs and targets of a few samples."""

    x: Tensor
    y: Tensor
    names: list[str]

    def to(self, device: str) -> "Pairs":
        return replace(self, x=self.x.to(device), y=self.y.to(device))


class Line:
    """Source of noisy samples; remembers what was asked for and can poison one sample."""

    def __init__(self, num_samples: int = 10, poisoned: int | None = None, kill_at: int | None = None) -> None:
        self.num_samples, self.poisoned, self.kill_at = num_samples, poisoned, kill_at
        self.asked: list[tuple[int, tuple[int, ...]]] = []

    def __len__(self) -> int:
        return self.num_samples

    def _sample(self, epoch: int, index: int) -> Tensor:
        noise = torch.randn(4, generator=torch_rng(3, "augment", epoch, index))
        return noise * float("nan") if index == self.poisoned else noise

    def load(self, epoch: int, indices: Sequence[int]) -> Pairs:
        if len(self.asked) == self.kill_at:
            raise KeyboardInterrupt
        self.asked.append((epoch, tuple(indices)))
        x = torch.stack([self._sample(epoch, i) for i in indices])
        return Pairs(x, x.sum(1, keepdim=True), [f"frame{i}" for i in indices])


def make_net(width: int = 8) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 1))


def train(net: nn.Module, source: Line, out: Path, config: FitConfig, **options: object) -> loop.FitResult:
    def loss(batch: Pairs) -> Objective:
        error = (net(batch.x).float() - batch.y).square().mean()
        return Objective(error, len(batch.x), {"double": 2 * error.item()})

    resources = options.pop("resources", CPU)
    return fit(net, loss, source, config, out, resources, 5, "test", **options)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("optimiser", [AdamWConfig(), SGDConfig(lr=0.1)])
def test_four_steps_are_two_a_kill_and_two(tmp_path: Path, optimiser: AdamWConfig | SGDConfig) -> None:
    config = FitConfig(steps=4, batch_size=4, optimiser=optimiser, grad_clip=0.5)  # crosses an epoch: 2 steps in each
    whole, stopped, resumed = make_net(), make_net(), make_net()
    result = train(whole, Line(), tmp_path / "whole", config)
    with pytest.raises(KeyboardInterrupt):
        train(stopped, Line(kill_at=2), tmp_path / "parts", config, checkpoint_every_s=0.0)
    nn.init.zeros_(resumed[0].weight)  # whatever the new process starts from must not matter
    source = Line()
    assert train(resumed, source, tmp_path / "parts", config) == result
    assert len(source.asked) == 2
    assert same(whole, resumed)
    curves = [(tmp_path / name / "curve.parquet").read_bytes() for name in ("whole", "parts")]
    assert curves[0] == curves[1]


def test_a_finished_training_is_not_run_again(tmp_path: Path) -> None:
    config = FitConfig(steps=3)
    first, second, source = make_net(), make_net(), Line()
    result = train(first, Line(), tmp_path, config)
    assert train(second, source, tmp_path, config) == result
    assert source.asked == [] and same(first, second)
    finish(tmp_path)
    assert not (tmp_path / "resume").exists()
    train(make_net(), source, tmp_path, config)
    assert len(source.asked) == 3


def test_result_does_not_depend_on_workers(tmp_path: Path) -> None:
    config = FitConfig(epochs=2, batch_size=3)
    nets = [make_net() for _ in range(3)]
    for workers, net in enumerate(nets):
        train(net, Line(), tmp_path / str(workers), config, resources=Resources(workers=workers))
    assert same(nets[0], nets[1]) and same(nets[0], nets[2])


def test_every_epoch_is_a_permutation_without_its_incomplete_batch(tmp_path: Path) -> None:
    source = Line(10)
    train(make_net(), source, tmp_path, FitConfig(epochs=2, batch_size=4))
    assert [epoch for epoch, _ in source.asked] == [0, 0, 1, 1]
    seen = [i for _, part in source.asked[:2] for i in part]
    assert len(set(seen)) == 8 and {len(part) for _, part in source.asked} == {4}
    assert source.asked[0][1] != source.asked[2][1]


def test_fewer_samples_than_a_batch_make_one_batch(tmp_path: Path) -> None:
    source = Line(3)
    assert train(make_net(), source, tmp_path, FitConfig(epochs=2, batch_size=16)).steps == 2
    assert sorted(source.asked[0][1]) == [0, 1, 2]


@pytest.mark.parametrize("accumulate", [2, 3, 6])
def test_accumulation_equals_the_big_batch(tmp_path: Path, accumulate: int) -> None:
    nets = [nn.Linear(4, 1) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    for net, parts in zip(nets, (1, accumulate), strict=True):
        config = FitConfig(steps=4, batch_size=5, accumulate=parts, optimiser=SGDConfig(lr=0.1))
        train(net, Line(), tmp_path / str(parts), config)
    assert torch.allclose(nets[0].weight, nets[1].weight, atol=1e-6)
    curves = [pq.read_table(tmp_path / str(parts) / "curve.parquet").to_pydict() for parts in (1, accumulate)]
    assert np.allclose(curves[0]["double"], curves[1]["double"], rtol=1e-5)


def test_non_finite_loss_names_the_frames(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"frame7.*loss nan is not finite in step \d.*lower optimiser.lr"):
        train(nn.Linear(4, 1), Line(poisoned=7), tmp_path, FitConfig(epochs=2, batch_size=5, accumulate=5))


def test_non_finite_gradient_names_the_frames(tmp_path: Path) -> None:
    net = nn.Linear(4, 1)
    with pytest.raises(UserError, match=r"frame\d.*gradient is not finite in step 1"):
        infinite_slope = lambda b: Objective((net(b.x) * 0).sum().sqrt(), len(b.x), {})  # noqa: E731
        fit(net, infinite_slope, Line(), FitConfig(steps=1), tmp_path, CPU, 0, "test")


def test_no_samples(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no sample to train on"):
        train(make_net(), Line(0), tmp_path, FitConfig(steps=1))


def test_resume_state_of_another_recipe_or_architecture(tmp_path: Path) -> None:
    train(make_net(), Line(), tmp_path, FitConfig(steps=2))
    with pytest.raises(CheckpointError, match=r"another recipe: fit.steps: 2 -> 3; remove"):
        train(make_net(), Line(), tmp_path, FitConfig(steps=3))
    with pytest.raises(CheckpointError, match=r"another recipe: groups\.all"):
        train(make_net(9), Line(), tmp_path, FitConfig(steps=2))
    extra = nn.Sequential(make_net())  # the same parameters under other names
    with pytest.raises(CheckpointError, match=r"another architecture: 0\.0\.weight is missing"):
        train(extra, Line(), tmp_path, FitConfig(steps=2))
    state = tmp_path / "resume" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="unreadable resume state"):
        train(make_net(), Line(), tmp_path, FitConfig(steps=2))


def test_bf16_keeps_parameters_and_loss_in_float32(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(4, 1))
    seen: list[torch.dtype] = []
    net[0].register_forward_hook(lambda *args: seen.append(args[2].dtype))
    config = FitConfig(steps=80, precision="bf16", optimiser=AdamWConfig(lr=0.05), schedule=ConstantConfig())
    result = train(net, Line(), tmp_path, config)
    assert set(seen) == {torch.bfloat16} and net[0].weight.dtype == torch.float32
    assert result.last_loss < result.first_loss / 4


def test_groups_have_their_own_rate(tmp_path: Path) -> None:
    net = nn.Linear(4, 1)
    start = [p.detach().clone() for p in (net.weight, net.bias)]
    groups = [ParamGroup("weight", (net.weight,), 0.0), ParamGroup("bias", (net.bias,), 10.0)]
    config = FitConfig(steps=1, optimiser=AdamWConfig(lr=0.01, weight_decay=0), schedule=ConstantConfig())
    train(net, Line(), tmp_path, config, groups=groups)
    assert torch.equal(net.weight, start[0])
    assert (net.bias - start[1]).abs().item() == pytest.approx(0.1, rel=1e-3)  # Adam's first step is the rate itself


def test_log_lines_can_be_grepped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(make_net(), Line(), tmp_path, FitConfig(steps=3))
    lines = capsys.readouterr().err.splitlines()
    assert lines == (tmp_path / "logs" / "train.log").read_text().splitlines()
    assert lines[0] == "test 3 steps to go: too few to try one beforehand"
    assert len(lines) == 4 and lines[-1].startswith("test step=3/3 epoch=1 loss=")
    assert all(word in lines[-1] for word in (" lr=", " double=", " ms=", " data=", " eta=0s"))
    assert list((tmp_path / "logs" / "tensorboard").glob("events*"))


def test_curve_holds_no_times(tmp_path: Path) -> None:
    train(make_net(), Line(), tmp_path, FitConfig(steps=3))
    curve = pq.read_table(tmp_path / "curve.parquet")
    assert curve.column_names == ["step", "epoch", "loss", "lr", "grad_norm", "taught", "double"]
    assert curve["step"].to_pylist() == [1, 2, 3]
    assert all(math.isfinite(v) for v in curve["loss"].to_pylist())


def test_length_is_given_once() -> None:
    for lengths in ({}, {"epochs": 1, "steps": 1}):
        with pytest.raises(ValueError, match="exactly one of epochs and steps"):
            FitConfig(**lengths)
    assert FitConfig(**json.loads(FitConfig(steps=2).model_dump_json(exclude={"optimiser"}))) == FitConfig(steps=2)
