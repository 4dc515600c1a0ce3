"""Contract of every backbone, on every engine."""

import copy

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from lima_core.models import BackboneConfig, build_backbone, num_parameters
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.sparse import ENGINES
from lima_core.sparse.tensor import SparseTensor

SIZES = {
    "stem": 4,
    "encoder_widths": (4, 6, 8),
    "encoder_blocks": (1, 2, 1),
    "decoder_widths": (8, 6, 5),
    "decoder_blocks": (1, 1, 1),
}
SMALL = [MinkUNetConfig(**SIZES), MinkUNetConfig(**SIZES, stem_kernels=(5,), widen="downsampling", bn_eps=1e-3)]
"""Small configs of every member of the union."""


@pytest.fixture(params=[engine for engine in ENGINES if not engine.missing("cpu")], ids=lambda engine: engine.NAME)
def engine(request: pytest.FixtureRequest) -> str:
    return request.param.NAME


@pytest.fixture(params=SMALL, ids=lambda config: config.name)
def config(request: pytest.FixtureRequest) -> BackboneConfig:
    return request.param


def scan(num: int = 300) -> tuple[Tensor, Tensor]:
    """Features (V, 4) and coords (V, 4) of two samples, rows shuffled."""
    rng = torch.Generator().manual_seed(0)
    rows = torch.cat([torch.randint(0, 2, (num, 1), generator=rng), torch.randint(-9, 9, (num, 3), generator=rng)], 1)
    rows = torch.unique(rows, dim=0)
    rows = rows[torch.randperm(len(rows), generator=rng)].int()
    return torch.randn(len(rows), 4, generator=rng), rows


def test_output_is_on_the_input_voxels_with_the_promised_channels(config: BackboneConfig, engine: str) -> None:
    features, coords = scan()
    network = build_backbone(config, in_channels=4, engine=engine)
    out = network(SparseTensor(features, coords))
    assert out.features.shape == (len(coords), network.out_channels)
    assert torch.equal(out.coords, coords) and out.stride == (1, 1, 1)


def test_every_parameter_gets_a_gradient(config: BackboneConfig, engine: str) -> None:
    network = build_backbone(config, in_channels=4, engine=engine)
    network(SparseTensor(*scan())).features.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.abs().sum() > 0), name


def test_input_is_left_alone(config: BackboneConfig, engine: str) -> None:
    features, coords = scan()
    kept = features.clone(), coords.clone()
    build_backbone(config, in_channels=4, engine=engine)(SparseTensor(features, coords))
    assert torch.equal(features, kept[0]) and torch.equal(coords, kept[1])


def test_samples_and_row_order_do_not_matter_in_eval(config: BackboneConfig, engine: str) -> None:
    dtype, atol = (torch.float32, 1e-5) if engine == "torchsparse" else (torch.float64, 1e-12)  # it has float32 only
    features, coords = scan()
    features = features.to(dtype)
    network = build_backbone(config, in_channels=4, engine=engine).to(dtype).eval()
    with torch.no_grad():
        together = network(SparseTensor(features, coords)).features
        for rows in ((coords[:, 0] == 0).nonzero()[:, 0], (coords[:, 0] == 1).nonzero()[:, 0].flip(0)):
            alone = network(SparseTensor(features[rows], coords[rows])).features
            torch.testing.assert_close(alone, together[rows], rtol=0, atol=atol)


@pytest.mark.parametrize("num", [0, 1])
def test_empty_and_single_voxel_scans_train(config: BackboneConfig, engine: str, num: int) -> None:
    features, coords = scan()
    network = build_backbone(config, in_channels=4, engine=engine)
    out = network(SparseTensor(features[:num], coords[:num])).features
    out.sum().backward()
    assert out.shape == (num, network.out_channels) and bool(out.isfinite().all())


def test_weights_are_a_function_of_the_seed_not_of_the_engine_or_global_state(
    config: BackboneConfig, engine: str
) -> None:
    torch.manual_seed(1)
    first = build_backbone(config, in_channels=4, engine="native", seed=5).state_dict()
    torch.manual_seed(2)
    again = build_backbone(config, in_channels=4, engine=engine, seed=5).state_dict()
    other = build_backbone(config, in_channels=4, engine=engine, seed=6).state_dict()
    assert list(first) == list(again)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_a_copy_computes_the_same(config: BackboneConfig, engine: str) -> None:
    network = build_backbone(config, in_channels=4, engine=engine).eval()
    x = SparseTensor(*scan())
    assert torch.equal(copy.deepcopy(network)(x).features, network(x).features)


def test_autocast_bf16_is_close(config: BackboneConfig, engine: str) -> None:
    network, x = build_backbone(config, in_channels=4, engine=engine).eval(), SparseTensor(*scan())
    with torch.no_grad():
        exact = network(x).features
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = network(x).features
    assert rounded.dtype == torch.bfloat16
    # Not a mean cosine by row: ReLU leaves some rows exactly 0, and those have none. bf16 rounds by up to 0.4 %.
    assert 0 < float((exact - rounded.float()).norm() / exact.norm()) < 0.02


def test_configs_survive_json(config: BackboneConfig) -> None:
    assert TypeAdapter(BackboneConfig).validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("config", SMALL)
def test_parameters_are_counted_without_making_them(config: BackboneConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = sum(parameter.numel() for parameter in build_backbone(config, in_channels=3).parameters())
    assert num_parameters(config, 3) == expected
    monkeypatch.setattr("lima_core.models.backbones.build_backbone", None)  # the second time nothing is built
    assert num_parameters(config.model_copy(), 3) == expected
