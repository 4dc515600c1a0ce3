import pytest
import torch
from pydantic import ValidationError
from torch import nn

from lima_core.errors import ConfigError
from lima_core.models import build_backbone
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.sparse.tensor import SparseTensor


def stage(channels: int, width: int, depth: int) -> int:
    """Parameters of ``depth`` residual blocks: two 3^3 convolutions, and a 1^3 one where the width changes."""
    change = channels * width + 2 * width if channels != width else 0
    return 27 * (channels + width) * width + 4 * width + change + (depth - 1) * (54 * width * width + 4 * width)


def test_minkunet_34_has_the_parameters_of_its_published_table() -> None:
    expected = 27 * 4 * 32 + 2 * 32 + 27 * 32 * 32 + 2 * 32
    channels = 32
    for width, depth in ((32, 2), (64, 3), (128, 4), (256, 6)):
        expected += 8 * channels * channels + 2 * channels + stage(channels, width, depth)
        channels = width
    for width, skip in ((256, 128), (128, 64), (96, 32), (96, 32)):
        expected += 8 * channels * width + 2 * width + stage(width + skip, width, 2)
        channels = width
    with torch.device("meta"):  # counting needs no 150 MB
        network = build_backbone(MinkUNetConfig(), in_channels=4)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected == 37_873_280
    assert network.out_channels == 96


def num_parameters(config: MinkUNetConfig, in_channels: int) -> int:
    with torch.device("meta"):
        network = build_backbone(config, in_channels)
    return sum(parameter.numel() for parameter in network.parameters())


def test_slidr_has_one_convolution_and_the_intensity_in_its_stem() -> None:
    stem = 27 * 4 * 32 + 27 * 32 * 32 + 2 * 32
    slidr = MinkUNetConfig(stem_kernels=(3,), inputs=(3,))
    assert num_parameters(slidr, 4) == 37_873_280 - stem + 27 * 32 == 37_842_976


def test_a_network_sees_the_columns_it_is_given() -> None:
    sizes = {"encoder_widths": (3,), "encoder_blocks": (1,), "decoder_widths": (2,), "decoder_blocks": (1,)}
    rng = torch.Generator().manual_seed(0)
    coords = torch.randint(0, 5, (40, 4), generator=rng).unique(dim=0).int()
    features = torch.randn(len(coords), 4, generator=rng)
    some = build_backbone(MinkUNetConfig(inputs=(3, 0), **sizes), 4).eval()
    alone = build_backbone(MinkUNetConfig(**sizes), 2).eval()
    assert "columns" not in some.state_dict()
    alone.load_state_dict(some.state_dict())
    chosen = alone(SparseTensor(features[:, [3, 0]], coords)).features
    assert torch.equal(some(SparseTensor(features, coords)).features, chosen)
    with pytest.raises(ConfigError, match=r"inputs \[4\] of features with 4 columns; count from 0 to 3"):
        build_backbone(MinkUNetConfig(inputs=(4,), **sizes), 4)


def test_pointcept_widens_where_it_halves_the_resolution() -> None:
    expected = 125 * 4 * 32 + 2 * 32
    channels = 32
    for width, depth in ((32, 2), (64, 3), (128, 4), (256, 6)):
        expected += 8 * channels * width + 2 * width + stage(width, width, depth)
        channels = width
    for width, skip in ((256, 128), (128, 64), (96, 32), (96, 32)):
        expected += 8 * channels * width + 2 * width + stage(width + skip, width, 2)
        channels = width
    assert num_parameters(MinkUNetConfig(stem_kernels=(5,), widen="downsampling"), 4) == expected


def norms(**fields: object) -> dict[str, nn.BatchNorm1d]:
    config = MinkUNetConfig(
        stem=2, encoder_widths=(3,), encoder_blocks=(1,), decoder_widths=(2,), decoder_blocks=(1,), **fields
    )
    network = build_backbone(config, 1)
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm1d)}


def test_batch_norm_momentum_is_the_same_everywhere() -> None:
    layers = norms(bn_momentum=0.02)
    assert len(layers) == 10 and {layer.momentum for layer in layers.values()} == {0.02}
    assert {layer.eps for layer in layers.values()} == {1e-5}


def test_residual_blocks_may_have_their_own_momentum_but_not_their_shortcuts() -> None:
    layers = norms(bn_momentum=0.02, block_bn_momentum=0.1, bn_eps=1e-3)
    others = {name for name, layer in layers.items() if layer.momentum == 0.1}
    assert others == {name for name in layers if ".first." in name or ".second." in name} and len(others) == 4
    assert {layer.eps for layer in layers.values()} == {1e-3}


@pytest.mark.parametrize(
    "change",
    [
        {"encoder_widths": (32, 64)},
        {"decoder_blocks": (2, 2, 2)},
        {"stem": 0},
        {"bn_momentum": 0.0},
        {"stem_kernels": (2,)},
        {"inputs": ()},
    ],
)
def test_impossible_sizes_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MinkUNetConfig(**change)
