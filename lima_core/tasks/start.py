"""Where a downstream training starts: a pretrained backbone, checked, or one at random."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from lima_core.errors import CheckpointError, ConfigError
from lima_core.geometry.voxels import CartesianGrid, CylindricalGrid
from lima_core.models import BackboneConfig, build_backbone
from lima_core.models.described import IN_CHANNELS, Network, described_start
from lima_core.models.pretrained import fill
from lima_core.training.checkpoint import read_meta

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
        CheckpointError: a checkpoint that is damaged, not finite, not of this input, or not what the config says.
        ConfigError: ``init`` without what it needs.
    """
    folder = _folder(init, checkpoint)
    if folder is None:
        network, method, teacher = _given(backbone, voxels), "none", ""
    else:
        meta = read_meta(folder)
        network, method, teacher = described_start(meta, folder)
        _require_same(network, Network(backbone, voxels), folder)
    config = network.backbone.model_copy(update={"bn_momentum": bn_momentum})
    module = build_backbone(config, IN_CHANNELS, engine, seed)
    if folder is not None:
        fill(module, meta, folder)
    return Start(module, config, network.voxels, method, teacher)


def _folder(init: Init, checkpoint: Path | None) -> Path | None:
    """Where the weights are; None at random."""
    if init == "random":
        if checkpoint is not None:
            raise ConfigError("init 'random' with a checkpoint", where=checkpoint, remedy="set init to 'pretrained'")
        return None
    if checkpoint is None:
        raise ConfigError("init 'pretrained' without a checkpoint", remedy="distill one, or set init to 'random'")
    return checkpoint / "backbone"


def _given(backbone: BackboneConfig | None, voxels: Grid | None) -> Network:
    if backbone is None or voxels is None:
        remedy = "give those of the distilled model it is compared with"
        raise ConfigError("init 'random' needs the configs backbone and voxels", remedy=remedy)
    return Network(backbone, voxels)


def _require_same(found: Network, wanted: Network, where: Path) -> None:
    """Raises a CheckpointError if the checkpoint is another network than the config means, where it means one."""
    for name, config, there in zip(Network._fields, wanted, found, strict=True):
        there = there.model_dump(mode="json")
        config = config.model_dump(mode="json") if config else there
        for key in sorted((config.keys() | there.keys()) - {"bn_momentum"}):
            if config.get(key) != there.get(key):
                what = f"another {name}: {key} is {there.get(key)}, the config says {config.get(key)}"
                remedy = "use the checkpoint that belongs to this config"
                raise CheckpointError(what, where=where, remedy=remedy)
