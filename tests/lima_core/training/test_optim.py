"""Schedules against torch's own, and their end points."""

import itertools

import pytest
import torch
from torch import nn

from lima_core.training.optim import (
    AdamWConfig,
    ConstantConfig,
    CosineConfig,
    OneCycleConfig,
    ParamGroup,
    SGDConfig,
    build_optimiser,
    one_group,
    rate_factor,
)


@pytest.mark.parametrize(("total", "warm_up"), [(50, 0.2), (1000, 0.2), (37, 0.4)])
def test_onecycle_is_that_of_torch(total: int, warm_up: float) -> None:
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 0.01, total, pct_start=warm_up, div_factor=25, final_div_factor=100, cycle_momentum=False
    )
    for step in range(total):
        factor = rate_factor(OneCycleConfig(warm_up=warm_up), step, total, 5)
        assert factor * 0.01 == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        optimiser.step()
        if step + 1 < total:
            theirs.step()


def test_onecycle_survives_a_handful_of_steps() -> None:
    for total in range(1, 8):
        factors = [rate_factor(OneCycleConfig(), step, total, 5) for step in range(total)]
        assert all(0 < factor <= 1 for factor in factors)


def test_cosine_rises_linearly_and_ends_at_its_end() -> None:
    factors = [rate_factor(CosineConfig(warm_up=0.1, end_factor=0.05), step, 100, 5) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * i for i in range(1, 11)])
    assert factors[10] == 1 and factors[-1] == pytest.approx(0.05)
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))
    assert factors[10 + 89 // 2] == pytest.approx(0.525, abs=0.02)


def test_constant() -> None:
    assert {rate_factor(ConstantConfig(), step, 9, 5) for step in range(9)} == {1.0}


def test_optimisers_take_every_field() -> None:
    net = nn.Linear(2, 2)
    adam = build_optimiser(AdamWConfig(lr=0.5, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.7), one_group(net))
    assert isinstance(adam, torch.optim.AdamW)
    assert [adam.defaults[k] for k in ("betas", "eps", "weight_decay")] == [(0.8, 0.9), 1e-3, 0.7]
    groups = [ParamGroup("head", (net.weight,), 10), ParamGroup("none", ())]
    sgd = build_optimiser(SGDConfig(lr=0.02), groups)
    assert [(g["name"], g["lr"], g["dampening"]) for g in sgd.param_groups] == [("head", 0.2, 0.1)]


def test_frozen_parameters_are_in_no_group() -> None:
    net = nn.Linear(2, 2)
    net.bias.requires_grad_(False)
    assert one_group(net)[0].params == (net.weight,)
