"""Weights of another project -> the same network here, with a report of every tensor of the file.

All or nothing: a backbone of which a tensor is missing, misshapen, not finite or left over is refused, since it would
compute something else than it did.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lima_core.errors import CheckpointError
from lima_core.geometry.voxels import CartesianGrid, CylindricalGrid
from lima_core.models.described import IN_CHANNELS
from lima_core.models.foreign.dialect import LIMA, Dialect, Head, layers
from lima_core.models.foreign.files import read_tensors
from lima_core.models.foreign.kernels import Layout, from_lima, to_lima
from lima_core.models.foreign.recognise import Found, infer_config, recognise
from lima_core.models.minkunet import MinkUNet, MinkUNetConfig
from lima_core.models.pretrained import require_finite

NORM = ("weight", "bias", "running_mean", "running_var")
COUNTER = "num_batches_tracked"
"""Written by every BatchNorm, read by none that has a momentum; old files lack it."""
INTENSITY = 3
"""Its column in the features that networks here are given."""
INPUTS = {1: (INTENSITY,), 4: None}
"""What a network with so many input channels is taken to see (``MinkUNetConfig.inputs``)."""


@dataclass(frozen=True)
class Imported:
    """A network read from a file, in our names and layout, and the report."""

    config: MinkUNetConfig
    """For features of 4 columns, x y z intensity."""
    backbone: dict[str, Tensor]
    """State dict of a ``MinkUNet``, float32."""
    head: tuple[Tensor, Tensor] | None
    """Weight (C_out, C_in) and bias (C_out,) of the linear layer on top, if the file has one that fits."""
    dialect: str
    layout: Layout
    prefix: str
    matched: int
    """Tensors of the file that are in ``backbone``."""
    head_name: str
    """What the head was called, or why there is none."""
    left_out: dict[str, int]
    """Number of tensors that belong to no backbone or head, by the beginning of their names."""
    voxels: CartesianGrid | CylindricalGrid
    """The usual ones of that project; the file does not say."""

    def report(self) -> list[str]:
        """What was found, what was left out and why, line by line."""
        under = f" under {self.prefix!r}" if self.prefix else ""
        seen = "the intensity" if self.config.inputs else "x y z intensity"
        sizes = f"stem {self.config.stem_kernels}, encoder {self.config.encoder_widths}"
        lines = [
            f"{self.dialect} ({self.layout} kernels){under}: {self.matched} tensors matched, none missing",
            f"network: {sizes}, decoder {self.config.decoder_widths}, sees {seen}",
            f"head: {self.head_name}",
        ]
        parts = ", ".join(f"{name} ({number})" for name, number in sorted(self.left_out.items()))
        return [*lines, f"left out, not part of the LiDAR network: {parts}" if parts else "left out: nothing"]


def import_file(path: Path, prefix: str | None = None, intensity_divisor: float = 1.0) -> Imported:
    """The MinkUNet in a checkpoint of SLidR, SuperFlow, LiMoE, mmdetection3d or Pointcept.

    Args:
        path: as ``read_tensors``.
        prefix: where in the file, if there are several backbones.
        intensity_divisor: what that project divides recorded intensities by (Pointcept 255 on nuScenes); the first
            convolution is scaled so that the network here takes them as recorded.

    Raises:
        CheckpointError: unreadable, no such network, or one of which a tensor is missing, of a wrong shape, not finite,
            or has no place.
    """
    tensors = read_tensors(path)
    found = recognise(tensors, path, prefix)
    inside = {name.removeprefix(found.prefix): t for name, t in tensors.items() if name.startswith(found.prefix)}
    _require_plain(inside, path)
    config, channels = infer_config(inside, found.dialect, path)
    if channels not in INPUTS:
        what = f"takes {channels} input channels; 4 (x y z intensity) and 1 (intensity) are known here"
        raise CheckpointError(what, where=path, remedy="it needs inputs that this package does not load")
    config = config.model_copy(update={"inputs": INPUTS[channels]})
    layout = _layout(inside, config, found.dialect)
    backbone, used = _backbone(inside, found, config, layout, path)
    used = {found.prefix + name for name in used}
    head, head_name, beside = _head(tensors, found, layout, config.decoder_widths[-1], path)
    outside = tensors.keys() - used - beside
    _require_nothing_left({name for name in outside if name.startswith(found.prefix)}, path)
    scale_intensity(backbone, config, 1.0 / intensity_divisor)
    return Imported(
        config=config,
        backbone=backbone,
        head=head,
        dialect=found.dialect.name,
        layout=layout,
        prefix=found.prefix,
        matched=len(used),
        head_name=head_name,
        left_out=_left_out(outside, found.prefix),
        voxels=found.dialect.voxels,
    )


def _layout(tensors: Mapping[str, Tensor], config: MinkUNetConfig, dialect: Dialect) -> Layout:
    """The first layout of the dialect that fits the first halving of the resolution, whose widths are known."""
    layer, width = dialect.down(0), config.encoder_widths[0] if config.widen == "downsampling" else config.stem
    wanted = torch.empty(8, config.stem, width, device="meta")
    shape = tensors[layer.weight].shape
    fitting = [layout for layout in dialect.layouts if from_lima(wanted, 2, layout).shape == shape]
    return fitting[0] if fitting else dialect.layouts[0]


def _backbone(
    tensors: Mapping[str, Tensor], found: Found, config: MinkUNetConfig, layout: Layout, where: Path
) -> tuple[dict[str, Tensor], set[str]]:
    """Our state dict, and the foreign names that it was made of."""
    ours, used = {}, set()
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in MinkUNet(config, IN_CHANNELS).state_dict().items()}
    for mine, theirs in zip(layers(config, LIMA), layers(config, found.dialect), strict=True):
        weight, norm = mine.layer
        wanted = from_lima(torch.empty(shapes[weight], device="meta"), mine.kernel, layout).shape
        ours[weight] = to_lima(_taken(tensors, theirs.layer.weight, wanted, where), mine.kernel, layout)
        for part in NORM:
            ours[f"{norm}.{part}"] = _taken(tensors, f"{theirs.layer.norm}.{part}", shapes[f"{norm}.{part}"], where)
        counter = f"{theirs.layer.norm}.{COUNTER}"
        ours[f"{norm}.{COUNTER}"] = tensors.get(counter, torch.tensor(0)).long().reshape(())
        used |= {theirs.layer.weight, *(f"{theirs.layer.norm}.{part}" for part in NORM)} | ({counter} & tensors.keys())
    return ours, used


def _taken(tensors: Mapping[str, Tensor], name: str, shape: torch.Size, where: Path) -> Tensor:
    """One tensor in float32, checked."""
    if name not in tensors:
        raise CheckpointError(f"{name} is missing", where=where, remedy="the file is not complete: fetch it again")
    tensor = tensors[name]
    _require_plain({name: tensor}, where)
    if tensor.shape != shape:
        what = f"{name} is {tuple(tensor.shape)}, not {tuple(shape)}"
        raise CheckpointError(what, where=where, remedy="it is of another architecture than its names say")
    require_finite({name: tensor}, where)
    return tensor.float().contiguous()


def _require_plain(tensors: Mapping[str, Tensor], where: Path) -> None:
    """Raises a CheckpointError that names the first tensor that is no plain array of real numbers in memory."""
    for name, tensor in tensors.items():
        counts = name.endswith(f".{COUNTER}")
        problems = {
            "has no values (a meta tensor)": tensor.is_meta,
            "is quantised": tensor.is_quantized,
            f"is stored as {tensor.layout}".replace("torch.", ""): tensor.layout != torch.strided,
            f"holds {tensor.dtype}, not floating-point numbers".replace("torch.", ""): not (
                tensor.is_floating_point() or counts
            ),
            f"is {tuple(tensor.shape)}, not a single number": counts and tensor.numel() != 1,
        }
        if found := next((problem for problem, there in problems.items() if there), None):
            remedy = "save plain dense floating-point weights"
            raise CheckpointError(f"{name} {found}", where=where, remedy=remedy)


def _head(
    tensors: Mapping[str, Tensor], found: Found, layout: Layout, channels: int, where: Path
) -> tuple[tuple[Tensor, Tensor] | None, str, set[str]]:
    """The linear layer on top, its name or why there is none, and the names of its tensors."""
    for head in found.dialect.heads:
        at = found.prefix if head.inside else _root(found.prefix)
        names = {at + head.weight, at + head.bias}
        if not names <= tensors.keys():
            continue
        weight, bias = tensors[at + head.weight], tensors[at + head.bias]
        wanted = head_shape(head, bias.numel(), channels, layout)
        if weight.shape != wanted:
            return None, f"none: {at}{head.weight} is {tuple(weight.shape)}, not {tuple(wanted)}", names
        weight, bias = (
            _taken(tensors, at + head.weight, wanted, where),
            _taken(tensors, at + head.bias, bias.shape, where),
        )
        linear = to_lima(weight, 1, layout)[0].T.contiguous() if head.convolution else weight
        return (linear, bias.flatten()), f"{at}{head.weight.rpartition('.')[0]}, {bias.numel()} channels", names
    return None, "none in the file", set()


def head_shape(head: Head, channels_out: int, channels_in: int, layout: Layout) -> torch.Size:
    """Shape of a foreign head's weight."""
    if not head.convolution:
        return torch.Size((channels_out, channels_in))
    return from_lima(torch.empty(1, channels_in, channels_out, device="meta"), 1, layout).shape


def _root(prefix: str) -> str:
    """``state_dict.backbone.`` -> ``state_dict.``."""
    root = prefix.removesuffix(".").rpartition(".")[0]
    return f"{root}." if root else ""


def _require_nothing_left(left: set[str], where: Path) -> None:
    if left:
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        what = f"the backbone has tensors that a MinkUNet lacks: {', '.join(sorted(left)[:3])}{more}"
        raise CheckpointError(what, where=where, remedy="it is another network (SPVCNN, bottleneck blocks, ...)")


def _left_out(names: set[str], prefix: str) -> dict[str, int]:
    """How many tensors lie outside, by the first word that is not the backbone's own root."""
    root = _root(prefix)
    words = [root * name.startswith(root) + name.removeprefix(root).split(".")[0] for name in names]
    return dict(Counter(words))


def scale_intensity(backbone: dict[str, Tensor], config: MinkUNetConfig, factor: float) -> None:
    """Makes the first convolution of a state dict of ours see intensity times ``factor``, in place."""
    seen = config.inputs or range(IN_CHANNELS)
    if INTENSITY in seen:
        backbone["stem.0.0.weight"][:, seen.index(INTENSITY)] *= factor
