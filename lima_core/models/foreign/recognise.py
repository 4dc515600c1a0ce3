"""Whose network is this, and how large: told by the names and shapes of its tensors alone."""

from collections.abc import Callable, Collection, Mapping
from itertools import count, takewhile
from typing import NamedTuple

from pydantic import ValidationError
from torch import Tensor

from lima_core.errors import CheckpointError
from lima_core.models.foreign.dialect import Dialect, Layer
from lima_core.models.foreign.kernels import edge
from lima_core.models.foreign.mmdet3d import MINKOWSKI, SPCONV, TORCHSPARSE
from lima_core.models.foreign.pointcept import POINTCEPT
from lima_core.models.foreign.slidr import SLIDR
from lima_core.models.foreign.superflow import SUPERFLOW
from lima_core.models.minkunet import MinkUNetConfig

DIALECTS = (SUPERFLOW, SLIDR, TORCHSPARSE, SPCONV, MINKOWSKI, POINTCEPT)


class Found(NamedTuple):
    """A backbone in a file."""

    dialect: Dialect
    prefix: str
    """What stands before the dialect's names, with its dot; empty where nothing does."""


def recognise(names: Collection[str], where: object, prefix: str | None = None) -> Found:
    """The one MinkUNet among the tensors of a file.

    Args:
        names: of all tensors.
        where: the file, for errors.
        prefix: take the backbone under it, where there are several.

    Raises:
        CheckpointError: none, or several.
    """
    found = [Found(dialect, prefix) for dialect in DIALECTS for prefix in _prefixes(names, dialect)]
    if prefix is not None:
        found = [item for item in found if item.prefix == prefix]
    if len(found) == 1:
        return found[0]
    if found:
        prefixes = ", ".join(repr(item.prefix) for item in found)
        raise CheckpointError(
            f"holds several backbones, under {prefixes}", where=where, remedy="choose one with --set prefix=..."
        )
    raise CheckpointError(_unknown(names), where=where, remedy="docs/weights.md lists what can be read")


def _prefixes(names: Collection[str], dialect: Dialect) -> list[str]:
    """Where the tensors that only this dialect names so all are: those of the first layer and of the first halving."""
    wanted = [f"{dialect.stem(0).norm}.weight", dialect.down(0).weight, f"{dialect.down(0).norm}.weight"]
    anchor, known = dialect.stem(0).weight, set(names)
    starts = [name.removesuffix(anchor) for name in names if name.endswith(anchor)]
    starts = [start for start in starts if not start or start.endswith(".")]
    return [start for start in starts if all(start + name in known for name in wanted)]


def _unknown(names: Collection[str]) -> str:
    if any("waffleiron." in name or "spatial_mix." in name for name in names):
        return "holds a WaffleIron (ScaLR's backbone), which is no sparse U-Net and cannot be turned into one"
    known = ", ".join(dialect.name for dialect in DIALECTS)
    return f"holds no MinkUNet named as in {known}; its first tensors are {', '.join(sorted(names)[:3])}"


def infer_config(tensors: Mapping[str, Tensor], dialect: Dialect, where: object) -> tuple[MinkUNetConfig, int]:
    """Sizes of a network, and its number of input channels.

    Args:
        tensors: those of the backbone, named as in ``dialect``.
        dialect: whose.
        where: the file, for errors.

    Raises:
        CheckpointError: a layer without which the sizes are unknown is missing or of an impossible shape.
    """
    begun = _beginnings(tensors)

    def width(layer: Layer) -> int:
        name = f"{layer.norm}.weight"
        if name not in tensors or tensors[name].ndim != 1:
            raise CheckpointError(f"{name} is missing or not a vector", where=where, remedy="fetch the file again")
        return len(tensors[name])

    def depth(prefix: Callable[[int], str]) -> int:
        return _how_many(lambda b: prefix(b) in begun)

    def block_width(prefix: str) -> int:
        return width(Layer("", f"{prefix}.{dialect.block.second.norm}"))

    stems = [dialect.stem(i) for i in range(_how_many(lambda i: dialect.stem(i).weight in tensors))]
    stages = dialect.stages or _how_many(lambda s: dialect.encoder(s, 0) in begun or dialect.down(s).weight in tensors)
    encoder = [block_width(dialect.encoder(s, 0)) for s in range(stages)]
    kept = [width(dialect.down(s)) for s in range(stages)]
    stem = width(stems[0])
    sizes = {
        "stem": stem,
        "stem_kernels": [edge(tensors[layer.weight]) for layer in stems],
        "encoder_widths": encoder,
        "encoder_blocks": [depth(lambda b, s=s: dialect.encoder(s, b)) for s in range(stages)],
        "widen": "blocks" if kept == [stem, *encoder[:-1]] else "downsampling",
        "decoder_widths": [width(dialect.up(s, stages)) for s in range(stages)],
        "decoder_blocks": [depth(lambda b, s=s: dialect.decoder(s, b, stages)) for s in range(stages)],
        "bn_eps": dialect.bn_eps,
        "block_bn_momentum": dialect.block_bn_momentum,
    }
    return _config(sizes, where), _in_channels(tensors[stems[0].weight], stem, sizes["stem_kernels"][0])


def _how_many(there: Callable[[int], bool]) -> int:
    return len(list(takewhile(there, count())))


def _beginnings(names: Collection[str]) -> set[str]:
    """All beginnings of names that end before a dot."""
    return {name[:i] for name in names for i, letter in enumerate(name) if letter == "."}


def _in_channels(weight: Tensor, out_channels: int, kernel: int) -> int:
    return weight.numel() // max(1, out_channels * kernel**3)


def _config(sizes: dict, where: object) -> MinkUNetConfig:
    try:
        return MinkUNetConfig.model_validate(sizes, strict=False)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in problem["loc"]) or "sizes"
        what = f"not a MinkUNet that can be built: {field} is {problem['input']!r} ({problem['msg']})"
        raise CheckpointError(what, where=where, remedy="docs/weights.md lists what can be read") from None
