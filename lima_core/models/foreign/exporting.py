"""Our weights in the names and the layout of another project."""

import json

from torch import Tensor

from lima_core.errors import ConfigError, did_you_mean
from lima_core.models.foreign.dialect import LIMA, Dialect, layers
from lima_core.models.foreign.importing import COUNTER, NORM, head_shape, scale_intensity
from lima_core.models.foreign.kernels import from_lima
from lima_core.models.foreign.recognise import DIALECTS
from lima_core.models.minkunet import MinkUNetConfig


def find_dialect(name: str) -> Dialect:
    """The dialect of that name; ``mmdet3d`` is its torchsparse one. ConfigError for an unknown name."""
    known = {dialect.name: dialect for dialect in DIALECTS}
    known["mmdet3d"] = known["mmdet3d-torchsparse"]
    if name not in known:
        raise ConfigError(f"unknown format {name!r}", where="export", remedy=did_you_mean(name, known))
    return known[name]


def in_dialect(
    backbone: dict[str, Tensor],
    head: tuple[Tensor, Tensor] | None,
    config: MinkUNetConfig,
    dialect: Dialect,
    *,
    segmentation: bool,
    intensity_divisor: float = 1.0,
) -> dict[str, Tensor]:
    """State dict of a whole model as that project's code expects it.

    Args:
        backbone: our state dict of a ``MinkUNet``.
        head: weight (C_out, C_in) and bias (C_out,) of a linear head, or None.
        config: the network's.
        dialect: whose names and layout.
        segmentation: a segmentation model; else a pretrained student. The two may be named differently.
        intensity_divisor: what that project divides recorded intensities by.

    Raises:
        ConfigError: that project's code cannot build such a network.
    """
    require_buildable(config, dialect)
    backbone = {name: tensor.clone() for name, tensor in backbone.items()}
    scale_intensity(backbone, config, intensity_divisor)
    layout, prefix = dialect.layouts[0], dialect.prefixes[segmentation]
    theirs = {}
    for mine, other in zip(layers(config, LIMA), layers(config, dialect), strict=True):
        theirs[prefix + other.layer.weight] = from_lima(backbone[mine.layer.weight], mine.kernel, layout)
        for part in (*NORM, COUNTER):
            theirs[f"{prefix}{other.layer.norm}.{part}"] = backbone[f"{mine.layer.norm}.{part}"]
    return theirs | _head(head, dialect, prefix, segmentation) if head else theirs


def require_buildable(config: MinkUNetConfig, dialect: Dialect) -> None:
    """Raises a ConfigError that names the first thing in which the network differs from what ``dialect`` can say."""
    stages = len(config.encoder_widths)
    wanted = {
        "inputs": (config.inputs, (dialect.inputs,)),
        "stem_kernels": (config.stem_kernels, dialect.stems),
        "widen": (config.widen, (dialect.widen,)),
        "bn_eps": (config.bn_eps, (dialect.bn_eps,)),
        "number of stages": (stages, (dialect.stages or stages,)),
    }
    for field, (value, possible) in wanted.items():
        if value not in possible:
            needed = " or ".join(_said(field, other) for other in possible)
            what = f"{dialect.name} cannot build this network: {field} is {_said(field, value)}; it needs {needed}"
            raise ConfigError(what, where="export", remedy="choose another format, or train a backbone with that value")


def _said(field: str, value: object) -> str:
    """A value as a config file has it."""
    meaning = " (all of x y z intensity)" if field == "inputs" and value is None else ""
    return json.dumps(value) + meaning


def _head(head: tuple[Tensor, Tensor], dialect: Dialect, prefix: str, segmentation: bool) -> dict[str, Tensor]:
    (weight, bias), other = head, dialect.heads[segmentation]
    at = prefix if other.inside else ""
    layout = dialect.layouts[0]
    if other.convolution:
        weight = from_lima(weight.T[None].contiguous(), 1, layout)
        bias = bias[None] if layout == "minkowski" else bias
    assert weight.shape == head_shape(other, *head[0].shape, layout)
    return {at + other.weight: weight.contiguous(), at + other.bias: bias}
