"""Where a downstream training starts: a pretrained backbone, checked, or one at random."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from lima_core.errors import CheckpointError, ConfigError
from lima_core.geometry.voxels import CartesianGrid, CylindricalGrid, described_grid
from lima_core.loading.segmentation import IN_CHANNELS
from lima_core.models import BackboneConfig, build_backbone
from lima_core.models.pretrained import described_config
from lima_core.training.checkpoint import load_weights, read_meta

Init = Literal["random", "pretrained"]
Grid = CartesianGrid | CylindricalGrid


@dataclass(frozen=True)
class Start:
    """Where a training starts from."""

    backbone: nn.Module
    config: BackboneConfig
    voxels: Grid
    method: str
    """Pre-training method; ``none`` at random."""
    teacher: str
    """Its teacher; empty at random."""


def start_from(
    init: Init,
    checkpoint: Path | None,
    backbone: BackboneConfig | None,
    voxels: Grid | None,
    *,
    bn_momentum: float,
    engine: str,
    seed: int,
) -> Start:
    """Backbone and voxels, from the checkpoint or at random.

    Args:
        init: which of the two.
        checkpoint: artifact of ``distill`` or an imported folder; None at random.
        backbone: needed at random; with a checkpoint it may be left out and must otherwise be the checkpoint's.
        voxels: as ``backbone``.
        bn_momentum: of all BatchNorms, whatever it was in pretraining.
        engine: a resolved sparse engine.
        seed: of random weights.

    Raises:
        CheckpointError: a checkpoint that is not what the config says, or not of this input.
        ConfigError: ``init`` without what it needs.
    """
    folder = _folder(init, checkpoint)
    if folder is None:
        config, grid, method, teacher = *_given(backbone, voxels), "none", ""
    else:
        meta = read_meta(folder)
        _check_meta(meta, backbone, voxels, folder)
        config, grid = described_config(meta, folder), described_grid(meta["voxels"])
        method, teacher = meta["method"], meta["teacher"]
    config = config.model_copy(update={"bn_momentum": bn_momentum})
    network = build_backbone(config, IN_CHANNELS, engine, seed)
    if folder is not None:
        load_weights(folder, network)
    return Start(network, config, grid, method, teacher)


def _folder(init: Init, checkpoint: Path | None) -> Path | None:
    """Where the weights are; None at random."""
    if init == "random":
        if checkpoint is not None:
            raise ConfigError("init 'random' with a checkpoint", where=checkpoint, remedy="set init to 'pretrained'")
        return None
    if checkpoint is None:
        raise ConfigError("init 'pretrained' without a checkpoint", remedy="distill one, or set init to 'random'")
    return checkpoint / "backbone"


def _given(backbone: BackboneConfig | None, voxels: Grid | None) -> tuple[BackboneConfig, Grid]:
    if backbone is None or voxels is None:
        remedy = "give those of the distilled model it is compared with"
        raise ConfigError("init 'random' needs the configs backbone and voxels", remedy=remedy)
    return backbone, voxels


def _check_meta(meta: dict[str, Any], backbone: BackboneConfig | None, voxels: Grid | None, where: Path) -> None:
    """The checkpoint is a backbone for our input, and the one that the config means, if it means one."""
    remedy = "use the checkpoint that belongs to this config"
    if meta.get("kind") != "backbone":
        raise CheckpointError(f"holds a {meta.get('kind')!r}, not a 'backbone'", where=where, remedy=remedy)
    if meta["in_channels"] != IN_CHANNELS:
        what = f"takes {meta['in_channels']} input channels, not {IN_CHANNELS} (x y z intensity)"
        raise CheckpointError(what, where=where, remedy="distill again")
    grid = described_grid(meta["voxels"]).model_dump(mode="json")
    network = described_config(meta, where).model_dump(mode="json")
    for name, wanted, found in (("backbone", backbone, network), ("voxels", voxels, grid)):
        wanted = wanted.model_dump(mode="json") if wanted else found
        for key in sorted((wanted.keys() | found.keys()) - {"bn_momentum"}):
            if wanted.get(key) != found.get(key):
                what = f"another {name}: {key} is {found.get(key)}, the config says {wanted.get(key)}"
                raise CheckpointError(what, where=where, remedy=remedy)
