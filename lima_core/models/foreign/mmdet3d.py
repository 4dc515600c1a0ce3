"""MinkUNetBackbone of mmdetection3d: mmdet3d/models/backbones/minkunet_backbone.py, with one of three libraries.

Layers: in mmdet3d/models/layers torchsparse_block.py, sparse_block.py (its blocks are mmdet's BasicBlock) and
minkowski_engine_block.py (its blocks are MinkowskiEngine/modules/resnet_block.py). Checkpoints are mmengine's, the
backbone is ``backbone``. The voxels are those of configs/_base_/models/minkunet.py, rounded and shifted to a minimum of
0 (data_preprocessors/data_preprocessor.py), columns x y z for all three.
"""

from lima_core.geometry.voxels import CartesianGrid
from lima_core.models.foreign.dialect import Block, Dialect, Head, Layer

_HEADS = (Head("decode_head.conv_seg.weight", "decode_head.conv_seg.bias"),) * 2
_VOXELS = CartesianGrid(size_m=(0.05, 0.05, 0.05))


def _torchsparse(name: str) -> Layer:
    return Layer(f"{name}.net.0.kernel", f"{name}.net.1")


def _spconv(name: str) -> Layer:
    return Layer(f"{name}.0.weight", f"{name}.1")


def _minkowski(name: str) -> Layer:
    return Layer(f"{name}.net.0.kernel", f"{name}.net.1.bn")


TORCHSPARSE = Dialect(
    name="mmdet3d-torchsparse",
    layouts=("torchsparse",),
    stem=lambda i: _torchsparse(f"conv_input.{i}"),
    down=lambda s: _torchsparse(f"encoder.{s}.0"),
    encoder=lambda s, b: f"encoder.{s}.{b + 1}",
    up=lambda s, n: _torchsparse(f"decoder.{s}.0"),
    decoder=lambda s, b, n: f"decoder.{s}.1.{b}",
    block=Block(
        Layer("net.0.kernel", "net.1"), Layer("net.3.kernel", "net.4"), Layer("downsample.0.kernel", "downsample.1")
    ),
    heads=_HEADS,
    prefixes=("backbone.", "backbone."),
    voxels=_VOXELS,
)

SPCONV = Dialect(
    name="mmdet3d-spconv",
    layouts=("spconv", "spconv1"),
    stem=lambda i: _spconv(f"conv_input.{i}"),
    down=lambda s: _spconv(f"encoder.{s}.0"),
    encoder=lambda s, b: f"encoder.{s}.{b + 1}",
    up=lambda s, n: _spconv(f"decoder.{s}.0"),
    decoder=lambda s, b, n: f"decoder.{s}.1.{b}",
    block=Block(Layer("conv1.weight", "bn1"), Layer("conv2.weight", "bn2"), _spconv("downsample")),
    heads=_HEADS,
    prefixes=("backbone.", "backbone."),
    voxels=_VOXELS,
)

MINKOWSKI = Dialect(
    name="mmdet3d-minkowski",
    layouts=("minkowski",),
    stem=lambda i: _minkowski(f"conv_input.{i}"),
    down=lambda s: _minkowski(f"encoder.{s}.0"),
    encoder=lambda s, b: f"encoder.{s}.{b + 1}",
    up=lambda s, n: _minkowski(f"decoder.{s}.0"),
    decoder=lambda s, b, n: f"decoder.{s}.1.{b}",
    block=Block(Layer("conv1.kernel", "norm1.bn"), Layer("conv2.kernel", "norm2.bn"), _minkowski("downsample")),
    heads=_HEADS,
    prefixes=("backbone.", "backbone."),
    voxels=_VOXELS,
)
