"""The loop: exact resume, independence of workers, accumulation, and what it says when a loss is not finite."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from lima_core.errors import CheckpointError, UserError
from lima_core.seeds import torch_rng
from lima_core.training import loop
from lima_core.training.checkpoint import read_weights, save_weights
from lima_core.training.choice import Validation
from lima_core.training.config import KeepConfig
from lima_core.training.loop import FitConfig, fit
from lima_core.training.objective import Objective
from lima_core.training.optim import (
    AdamWConfig,
    ConstantConfig,
    CosineConfig,
    EpochCosineConfig,
    InverseSqrtConfig,
    ParamGroup,
    SGDConfig,
)
from lima_core.types import Resources
from lima_core.whole import remove
from tests.lima_core.training import toy

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
    if config.checkpoints:
        options["save"] = lambda path: save_weights(path, net, {})
    return fit(net, loss, source, config, out, resources, 5, "test", **options)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    "options",
    [
        {"optimiser": AdamWConfig(decay_norms=False), "schedule": InverseSqrtConfig(cool_down_epochs=1.0)},
        {"optimiser": SGDConfig(lr=0.1), "schedule": EpochCosineConfig()},
        {"ema": 0.9, "accumulate": 2, "schedule": CosineConfig(warm_up_steps=2)},
        {"precision": "bf16", "checkpoints": KeepConfig(every_steps=1, keep_last=2)},
    ],
)
def test_four_steps_are_two_a_kill_and_two(tmp_path: Path, options: dict[str, Any]) -> None:
    config = FitConfig(steps=4, batch_size=4, grad_clip=0.5, **options)  # crosses an epoch: 2 steps in each
    whole, stopped, resumed = make_net(), make_net(), make_net()
    result = train(whole, Line(), tmp_path / "whole", config)
    with pytest.raises(KeyboardInterrupt):
        train(stopped, Line(kill_at=2 * config.accumulate), tmp_path / "parts", config, checkpoint_every_s=0.0)
    nn.init.zeros_(resumed[0].weight)  # whatever the new process starts from must not matter
    source = Line()
    assert train(resumed, source, tmp_path / "parts", config) == result
    assert len(source.asked) == 2 * config.accumulate
    assert same(whole, resumed)
    kept = [{path.name for path in (tmp_path / name).glob("checkpoints/*")} for name in ("whole", "parts")]
    assert kept[0] == kept[1] == ({"step-0000003", "step-0000004"} if config.checkpoints else set())
    curves = [(tmp_path / name / "curve.parquet").read_bytes() for name in ("whole", "parts")]
    assert curves[0] == curves[1]


def test_a_finished_training_is_not_run_again(tmp_path: Path) -> None:
    config = FitConfig(steps=3)
    first, second, source = make_net(), make_net(), Line()
    result = train(first, Line(), tmp_path, config)
    assert train(second, source, tmp_path, config) == result
    assert source.asked == [] and same(first, second)
    remove(tmp_path / "resume")
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


def test_a_gpu_that_is_too_small_is_told_in_one_line(tmp_path: Path) -> None:
    def loss(batch: Pairs) -> Objective:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB. GPU 0 has 8 GiB.")

    line = r"^frames frame\d, frame\d: out of GPU memory \(CUDA out of memory\); raise fit.accumulate, .*activations$"
    with pytest.raises(UserError, match=line):
        fit(nn.Linear(4, 1), loss, Line(), FitConfig(steps=1, batch_size=2), tmp_path, CPU, 0, "test")


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
    assert len(lines) == 5 and lines[3].startswith("test step=3/3 epoch=1 loss=")
    assert all(word in lines[3] for word in (" lr=", " double=", " ms=", " data=", " eta=0s"))
    assert re.fullmatch(r"test waited for data \d+\.\d% of 0s", lines[4])
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


def test_moving_average_is_what_is_left_and_kept(tmp_path: Path) -> None:
    config = FitConfig(steps=5, ema=0.6, checkpoints=KeepConfig(every_steps=2, keep_last=5))
    net, raw, average = make_net(), make_net(), {}
    raw_weights: list[dict[str, Tensor]] = []
    state = lambda: {name: tensor.clone() for name, tensor in raw.state_dict().items()}  # noqa: E731
    raw_weights.append(state())
    real = torch.optim.AdamW.step
    train(net, Line(), tmp_path / "average", config)

    def noted(self: torch.optim.AdamW, *args: object) -> None:
        real(self, *args)
        raw_weights.append(state())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", noted)
        train(raw, Line(), tmp_path / "raw", config.model_copy(update={"ema": None, "checkpoints": None}))
    average = raw_weights[0]["0.weight"].double()
    for step, weights in enumerate(raw_weights[1:]):
        decay = min(0.6, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weights["0.weight"].double()
    assert torch.allclose(net[0].weight.double(), average, atol=1e-6)
    assert not torch.allclose(net[0].weight, raw[0].weight, atol=1e-4)
    kept = read_weights(tmp_path / "average" / "checkpoints" / "step-0000005")
    assert all(torch.equal(kept[name], value) for name, value in net.state_dict().items())


def test_best_weights_by_the_declared_number_and_after_a_kill(tmp_path: Path) -> None:
    config = FitConfig(epochs=5, batch_size=5, ema=0.9)

    def best(net: nn.Module, source: Line, out: Path) -> loop.FitResult:
        def measure() -> dict[str, float]:
            assert not net.training
            value = net[0].weight.sum().item()
            return {"score": -abs(value - 1.7), "weight": value}

        return train(net, source, out, config, validation=Validation(measure, 2, "score"), checkpoint_every_s=0.0)

    whole, resumed = make_net(), make_net()
    result = best(whole, Line(), tmp_path / "whole")
    curve = pq.read_table(tmp_path / "whole" / "curve.parquet").to_pydict()
    looked = [step for step, score in zip(curve["step"], curve["score"], strict=True) if not math.isnan(score)]
    assert looked == [4, 8, 10]
    assert result.chosen_step == max(looked, key=lambda step: curve["score"][step - 1])
    assert result.chosen_epoch == result.chosen_step / 2
    assert whole[0].weight.sum().item() == curve["weight"][result.chosen_step - 1]
    with pytest.raises(KeyboardInterrupt):
        best(make_net(), Line(kill_at=9), tmp_path / "parts")
    assert len(list((tmp_path / "parts" / "resume").glob("best-*"))) == 1
    assert best(resumed, Line(), tmp_path / "parts") == result and same(whole, resumed)


def test_a_number_that_is_never_defined_chooses_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="score was never defined; hold out scenes that have labelled points"):
        nothing = Validation(lambda: {"score": math.nan}, 1, "score")
        train(make_net(), Line(), tmp_path, FitConfig(epochs=1), validation=nothing)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_trial_says_what_is_coming_and_leaves_no_trace(
    tmp_path: Path, accumulate: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Noisy(nn.Sequential):
        """Statistics, and random numbers of torch's own, which a trial must not draw."""

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(nn.functional.dropout(x, 0.3))

    def noisy() -> nn.Module:
        net = Noisy(*make_net())
        torch.manual_seed(4)
        return net

    config, nets = FitConfig(steps=100, batch_size=5, accumulate=accumulate), []
    for first_steps in (100, 101):
        monkeypatch.setattr(loop, "FROM_STEPS", first_steps)
        nets.append(noisy())
        train(nets[-1], Line(), tmp_path / str(first_steps), config)
        said = capsys.readouterr().err.splitlines()[0]
        pattern = r"about \S+ s a step, .* to load its batch \(on 1 threads\), \d+s in all, peak memory .* of .*B$"
        assert (re.search(pattern, said) is not None) == (first_steps == 100), said
    assert same(*nets)
    curves = [(tmp_path / name / "curve.parquet").read_bytes() for name in ("100", "101")]
    assert curves[0] == curves[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_trains_like_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, nets = toy.CONFIG.model_copy(update={"steps": 100, "accumulate": 2}), [toy.Net(), toy.Net()]
    for net, device in zip(nets, ("cpu", "cuda"), strict=True):
        toy.train(net, toy.Ragged(), tmp_path / device, config, resources=Resources(device=device, workers=2))
        assert "peak memory" in capsys.readouterr().err
    for here, there in zip(nets[0].state_dict().values(), nets[1].state_dict().values(), strict=True):
        torch.testing.assert_close(there.cpu(), here, rtol=1e-6, atol=1e-9)
