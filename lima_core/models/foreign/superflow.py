"""MinkUNetBackbone of SuperFlow and LiMoE: torchsparse, superflow/models/backbones/minkunet.py (the same file in both).

Checkpoints are mmengine's ``{"meta", "state_dict", "message_hub", ...}``; the backbone is ``backbone_3d`` in
pretraining and ``backbone`` downstream (configs/_base_/models/superflow.py, minkunet.py).
"""

from lima_core.geometry.voxels import CylindricalGrid
from lima_core.models.foreign.dialect import Block, Dialect, Head, Layer


def _module(name: str) -> Layer:
    return Layer(f"{name}.conv.kernel", f"{name}.norm")


SUPERFLOW = Dialect(
    name="superflow",
    layouts=("torchsparse",),
    stem=lambda i: _module(f"conv0.{i}"),
    down=lambda s: _module(f"conv{s + 1}"),
    encoder=lambda s, b: f"block{s + 1}.{b}",
    up=lambda s, n: _module(f"conv{n + 1 + s}"),
    decoder=lambda s, b, n: f"block{n + 1 + s}.{b}",
    block=Block(Layer("conv1.kernel", "norm1"), Layer("conv2.kernel", "norm2"), _module("downsample")),
    heads=(
        Head("head_3d.conv_seg.weight", "head_3d.conv_seg.bias"),
        Head("decode_head.conv_seg.weight", "decode_head.conv_seg.bias"),
    ),
    prefixes=("backbone_3d.", "backbone."),
    stages=4,
    voxels=CylindricalGrid(seam="cut"),
)
