"""Res16UNet34C of SLidR and of all who forked it (CSC, Seal's trainers): MinkowskiEngine, model/res16unet.py.

Checkpoints: ``{"model_points", "model_images", "epoch", "config"}`` of pretraining, ``{"model_points", "config"}`` from
downstream (``save`` in pretrain/ and downstream/lightning_trainer.py). The head ``final`` is part of the backbone.
"""

from lima_core.geometry.voxels import CylindricalGrid
from lima_core.models.foreign.dialect import Block, Dialect, Head, Layer

SLIDR = Dialect(
    name="slidr",
    layouts=("minkowski",),
    stem=lambda i: Layer(f"conv{i}p1s1.kernel", f"bn{i}.bn"),
    down=lambda s: Layer(f"conv{s + 1}p{2**s}s2.kernel", f"bn{s + 1}.bn"),
    encoder=lambda s, b: f"block{s + 1}.{b}",
    up=lambda s, n: Layer(f"convtr{n + s}p{2 ** (n - s)}s2.kernel", f"bntr{n + s}.bn"),
    decoder=lambda s, b, n: f"block{n + 1 + s}.{b}",
    block=Block(
        Layer("conv1.kernel", "norm1.bn"),
        Layer("conv2.kernel", "norm2.bn"),
        Layer("downsample.0.kernel", "downsample.1.bn"),
    ),
    heads=(Head("final.kernel", "final.bias", inside=True, convolution=True),) * 2,
    inputs=(3,),
    stems=((3,), (5,)),
    stages=4,
    block_bn_momentum=0.1,
    voxels=CylindricalGrid(seam="cut"),
)
