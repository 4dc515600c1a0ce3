import pytest
import torch
from pydantic import ValidationError
from torch import nn

from lima_core.models import build_backbone
from lima_core.models.minkunet import MinkUNetConfig


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


def test_batch_norm_momentum_is_the_same_everywhere() -> None:
    config = MinkUNetConfig(
        stem=2, encoder_widths=(2,), encoder_blocks=(1,), decoder_widths=(2,), decoder_blocks=(1,), bn_momentum=0.02
    )
    norms = [module for module in build_backbone(config, 1).modules() if isinstance(module, nn.BatchNorm1d)]
    assert len(norms) == 9 and {norm.momentum for norm in norms} == {0.02}


@pytest.mark.parametrize(
    "change", [{"encoder_widths": (32, 64)}, {"decoder_blocks": (2, 2, 2)}, {"stem": 0}, {"bn_momentum": 0.0}]
)
def test_impossible_sizes_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MinkUNetConfig(**change)
