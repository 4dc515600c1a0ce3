"""What the ``model.json`` of a network says, checked: every reader of such a folder reads it through here.

The file may come from anywhere. What is missing, of another type or not known here is told in one line.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from lima_core.errors import CheckpointError
from lima_core.geometry.voxels import CartesianGrid, CylindricalGrid, described_grid
from lima_core.models.backbones import BackboneConfig
from lima_core.models.heads import HeadConfig

IN_CHANNELS = 4
"""Of the features that networks here are given: x, y, z, intensity."""
_REMEDY = "fetch the folder again"
_KINDS = {str: "a text", int: "a whole number", list: "a list", dict: "an object"}


class Network(NamedTuple):
    """Sizes and cells."""

    backbone: BackboneConfig
    voxels: CartesianGrid | CylindricalGrid


class Pretrained(NamedTuple):
    """A network that a training can start from."""

    network: Network
    method: str
    """That pretrained it."""
    teacher: str


def described_network(meta: dict[str, Any], folder: Path) -> Network:
    """Sizes and cells of a network for the features that are given here.

    Raises:
        CheckpointError: missing, unknown, or for another input.
    """
    channels = fact(meta, "in_channels", int, folder)
    if channels != IN_CHANNELS:
        what = f"takes {channels} input channels, not {IN_CHANNELS} (x y z intensity)"
        raise CheckpointError(what, where=folder, remedy="use a network that was trained on these")
    return Network(_parsed(BackboneConfig, "backbone", meta, folder), _voxels(meta, folder))


def described_start(meta: dict[str, Any], folder: Path) -> Pretrained:
    """As ``described_network``, of a pretrained backbone, which must be one."""
    if meta.get("kind") != "backbone":
        what, remedy = f"holds a {meta.get('kind')!r}, not a 'backbone'", "use a checkpoint of distill or lima import"
        raise CheckpointError(what, where=folder, remedy=remedy)
    network = described_network(meta, folder)
    return Pretrained(network, fact(meta, "method", str, folder), fact(meta, "teacher", str, folder))


def described_head(meta: dict[str, Any], folder: Path) -> tuple[HeadConfig, int]:
    """Config of a head, and how many channels it has."""
    return _parsed(HeadConfig, "head", meta, folder), fact(meta, "channels", int, folder)


def described_classes(meta: dict[str, Any], folder: Path) -> tuple[str, ...]:
    """Names of the channels of a segmentation model."""
    classes = fact(meta, "classes", list, folder)
    if not classes or not all(isinstance(name, str) for name in classes):
        raise CheckpointError("model.json: classes is not a list of names", where=folder, remedy=_REMEDY)
    return tuple(classes)


def fact(meta: dict[str, Any], name: str, kind: type, folder: Path) -> Any:
    """An entry of that type; a number is above 0. CheckpointError for anything else."""
    if name not in meta:
        raise CheckpointError(f"model.json does not say {name!r}", where=folder, remedy=_REMEDY)
    value = meta[name]
    if not isinstance(value, kind) or isinstance(value, bool) or (kind is int and value < 1):
        shown = json.dumps(value)
        shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
        raise CheckpointError(f"model.json: {name} is {shown}, not {_KINDS[kind]}", where=folder, remedy=_REMEDY)
    return value


def _voxels(meta: dict[str, Any], folder: Path) -> CartesianGrid | CylindricalGrid:
    try:
        return described_grid(fact(meta, "voxels", dict, folder))
    except ValidationError as error:
        raise _unknown("voxels", error, folder) from None


def _parsed(kind: Any, name: str, meta: dict[str, Any], folder: Path) -> Any:
    """A config of that kind; through JSON, whose lists may become tuples."""
    try:
        return TypeAdapter(kind).validate_json(json.dumps(fact(meta, name, dict, folder)))
    except ValidationError as error:
        raise _unknown("an architecture", error, folder) from None


def _unknown(what: str, error: ValidationError, folder: Path) -> CheckpointError:
    problem = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in problem["loc"])
    what = f"{what} not known here: {field} {problem['input']!r} ({problem['msg']})"
    return CheckpointError(what, where=folder, remedy="use the version of lima that wrote it, or a newer one")
