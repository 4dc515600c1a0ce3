"""Schedules against torch's own, and their end points."""

import itertools
import math

import pytest
import torch
from torch import nn

from lima_core.training.optim import (
    AdamWConfig,
    ConstantConfig,
    CosineConfig,
    EpochCosineConfig,
    InverseSqrtConfig,
    OneCycleConfig,
    ParamGroup,
    SGDConfig,
    build_optimiser,
    decayed_groups,
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


@pytest.mark.parametrize(
    ("epoch", "published"), [(1, 1.0), (2, 0.557), (5, 0.318), (10, 0.218), (30, 0.124), (62.9, 0.085)]
)
def test_inverse_sqrt_has_the_published_multipliers(epoch: float, published: float) -> None:
    """Of ScaLR's branch scalr_plus: 65 epochs, batches of 8 of 55 100 samples."""
    per_epoch = 55_100 // 8
    factor = rate_factor(InverseSqrtConfig(), round(epoch * per_epoch), 65 * per_epoch, per_epoch)
    assert factor == pytest.approx(published, abs=5e-4)


def test_inverse_sqrt_rises_and_cools_down_linearly() -> None:
    factors = [rate_factor(InverseSqrtConfig(), step, 650, 10) for step in range(650)]
    assert factors[:10] == pytest.approx([0.1 * i for i in range(1, 11)])
    assert factors[630] == pytest.approx(1 / math.sqrt(1 + 62 / 0.45))
    straight = factors[640] / (1 / math.sqrt(1 + 63 / 0.45))
    assert straight == pytest.approx(0.5) and 0 < factors[649] < 0.006
    flat = InverseSqrtConfig(warm_up_epochs=0.0, cool_down_epochs=0.0)
    assert [rate_factor(flat, step, 20, 10) for step in (0, 9)] == pytest.approx([1.0, 1 / math.sqrt(1 + 0.9 / 0.45)])


def test_cosine_by_epoch_is_that_of_torch() -> None:
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 50)
    for epoch in range(50):
        for step in (7 * epoch, 7 * epoch + 6):
            assert rate_factor(EpochCosineConfig(), step, 350, 7) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimiser.step()
        theirs.step()


def test_warm_up_in_steps_epochs_or_share() -> None:
    for config in (CosineConfig(warm_up=0.2), CosineConfig(warm_up_steps=20), CosineConfig(warm_up_epochs=2.0)):
        factors = [rate_factor(config, step, 100, 10) for step in range(100)]
        assert factors.index(1.0) == 19 and factors[4] == pytest.approx(5 / 20)
    assert [rate_factor(CosineConfig(), step, 100, 10) for step in range(100)].index(1.0) == 4
    scalr = CosineConfig(warm_up_steps=3500, end_factor=0.005)  # 2e-3 to 1e-5
    assert 2e-3 * rate_factor(scalr, 171_999, 172_000, 6880) == pytest.approx(1e-5)
    assert rate_factor(scalr, 3499, 172_000, 6880) == 1.0
    with pytest.raises(ValueError, match="give one of warm_up, warm_up_steps and warm_up_epochs"):
        CosineConfig(warm_up=0.1, warm_up_steps=3)


def test_norms_and_biases_need_not_decay() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    for config in (AdamWConfig(decay_norms=False), SGDConfig(decay_norms=False)):
        decayed, kept = build_optimiser(config, one_group(net)).param_groups
        assert decayed["params"] == [net[0].weight] and decayed["weight_decay"] == config.weight_decay
        assert kept["params"] == [net[0].bias, net[1].weight, net[1].bias] and kept["weight_decay"] == 0
    assert len(build_optimiser(AdamWConfig(), one_group(net)).param_groups) == 1


def test_layer_wise_rates_grow_to_the_output() -> None:
    stages = [nn.Linear(2, 2) for _ in range(4)]
    groups = decayed_groups(stages, 0.9)
    assert [group.lr_multiplier for group in groups] == pytest.approx([0.9**4, 0.9**3, 0.9**2, 0.9])
    assert groups[0].params == tuple(stages[0].parameters())
