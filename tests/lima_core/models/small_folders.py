"""Folders as stages distill and finetune leave them, with small networks that were never trained."""

from pathlib import Path

import numpy as np
import torch

from lima_core.geometry.voxels import CylindricalGrid
from lima_core.models import build_backbone
from lima_core.models.heads import LinearHeadConfig, MlpHeadConfig, build_head
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.training.checkpoint import save_weights

CONFIG = {
    "stem": 4,
    "encoder_widths": (4, 6, 7, 8),
    "encoder_blocks": (1, 1, 1, 1),
    "decoder_widths": (7, 6, 4, 5),
    "decoder_blocks": (1, 1, 1, 1),
}
META = {"in_channels": 4, "voxels": CylindricalGrid().model_dump(mode="json"), "method": "lima", "teacher": "a teacher"}


def described(config: MinkUNetConfig) -> dict:
    """What the JSON says of a network."""
    return META | {"backbone": config.model_dump(mode="json")}


def student_folder(path: Path, head: LinearHeadConfig | MlpHeadConfig | None = None, **fields: object) -> Path:
    """Backbone and head (7 channels)."""
    head, config = head or LinearHeadConfig(), MinkUNetConfig(**CONFIG, **fields)
    backbone = build_backbone(config, 4, seed=1)
    save_weights(path / "backbone", backbone, described(config) | {"kind": "backbone"})
    meta = {"kind": "head", "head": head.model_dump(mode="json"), "channels": 7}
    save_weights(path / "head", build_head(head, backbone.out_channels, 7, seed=1), meta)
    return path


def segmentation_folder(path: Path, **fields: object) -> Path:
    """Model of three classes."""
    config = MinkUNetConfig(**CONFIG, **fields)
    backbone = build_backbone(config, 4, seed=1)
    head = build_head(LinearHeadConfig(), backbone.out_channels, 3, seed=1)
    model = torch.nn.ModuleDict({"backbone": backbone, "head": head})
    save_weights(
        path / "model", model, described(config) | {"kind": "segmentation", "classes": ["car", "road", "tree"]}
    )
    return path


def points(num: int) -> np.ndarray:
    """(num, 4) float32 within a few metres, some in the same voxel."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.uniform(-2, 2, (num, 3)) * [1, 0.3, 0.3], rng.uniform(0, 9, (num, 1))], 1).astype(
        np.float32
    )
