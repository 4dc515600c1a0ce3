"""SpUNet-v1m1 of Pointcept: spconv, pointcept/models/sparse_unet/spconv_unet_v1m1_base.py.

Checkpoints: ``{"epoch", "state_dict", "optimizer", ...}`` (engines/hooks/misc.py), names often under ``module.``; the
backbone of a DefaultSegmentor is ``backbone``, and its head ``final`` is part of it. Its decoder counts stages from the
finest. nuScenes scans are fed with intensity / 255 (datasets/nuscenes.py), voxels are floored, 0.05 m, columns x y z.
"""

from lima_core.geometry.voxels import CartesianGrid
from lima_core.models.foreign.dialect import Block, Dialect, Head, Layer


def _sequence(name: str) -> Layer:
    return Layer(f"{name}.0.weight", f"{name}.1")


POINTCEPT = Dialect(
    name="pointcept",
    layouts=("spconv", "spconv1"),
    stem=lambda i: Layer(f"conv_input.{3 * i}.weight", f"conv_input.{3 * i + 1}"),
    down=lambda s: _sequence(f"down.{s}"),
    encoder=lambda s, b: f"enc.{s}.block{b}",
    up=lambda s, n: _sequence(f"up.{n - 1 - s}"),
    decoder=lambda s, b, n: f"dec.{n - 1 - s}.block{b}",
    block=Block(Layer("conv1.weight", "bn1"), Layer("conv2.weight", "bn2"), _sequence("proj")),
    heads=(
        *[Head("final.weight", "final.bias", inside=True, convolution=True)] * 2,
        Head("seg_head.weight", "seg_head.bias"),
    ),
    prefixes=("backbone.", "backbone."),
    stems=((5,),),
    widen="downsampling",
    bn_eps=1e-3,
    voxels=CartesianGrid(size_m=(0.05, 0.05, 0.05)),
)
