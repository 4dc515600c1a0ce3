"""A trained network outside the pipeline: points in, features or logits out.

    from lima_core.models import load_model
    model = load_model("folder")
    logits = model(points)

The folder is an artifact of stage distill or finetune, or what ``lima export`` or ``lima import`` wrote: they are laid
out alike. ``model/`` is a segmentation model; ``backbone/`` is a student's network, ``head/`` the layer on top of it.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lima_core.errors import CheckpointError, DataError
from lima_core.geometry.voxels import CartesianGrid, CylindricalGrid, unique_voxels, voxel_coords
from lima_core.models.backbones import build_backbone
from lima_core.models.described import IN_CHANNELS, described_classes, described_head, described_network
from lima_core.models.heads import LinearHeadConfig, build_head
from lima_core.sparse.tensor import SparseTensor
from lima_core.training.checkpoint import WEIGHTS, read_meta, read_weights, require_match


class PointModel(nn.Module):
    """A backbone and a head, asked about points; in eval mode. Points of one voxel share what is said of them."""

    def __init__(
        self, backbone: nn.Module, head: nn.Module | None, grid: CartesianGrid | CylindricalGrid, meta: dict[str, Any]
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.grid, self.meta = backbone, head, grid, meta
        self.eval()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the logits' channels, in their order; empty for a student."""
        return tuple(self.meta.get("classes", ()))

    @torch.no_grad()
    def forward(self, points: np.ndarray | Tensor) -> Tensor:
        """(N, C) float32: logits, or a student's features in its teacher's space; without a head the backbone's.

        Args:
            points: (N, 4) float32 x, y, z (metres, LiDAR frame), intensity as the data set records it.

        Raises:
            DataError: of another shape, not finite, or too far out.
        """
        features, inverse = self._voxel_features(points)
        return (features if self.head is None else self.head(features)).float()[inverse]

    @torch.no_grad()
    def features(self, points: np.ndarray | Tensor) -> Tensor:
        """(N, C) float32: the backbone's features of every point; arguments and errors as ``forward``."""
        features, inverse = self._voxel_features(points)
        return features.float()[inverse]

    def _voxel_features(self, points: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
        """Features (V, C) of the occupied voxels, and the voxel of every point (N,)."""
        device = next(self.parameters()).device
        scan = points if isinstance(points, Tensor) else torch.tensor(np.asarray(points, dtype=np.float32))
        if scan.ndim != 2 or scan.shape[1] != 4:
            raise DataError(f"points are {tuple(scan.shape)}, not (N, 4)", remedy="give x, y, z, intensity")
        scan = scan.to(device, torch.float32)
        coords = nn.functional.pad(voxel_coords(scan[:, :3], self.grid), (1, 0))
        voxels, representative, inverse = unique_voxels(coords)
        return self.backbone(SparseTensor(scan[representative], voxels, self.grid.wrap)).features, inverse


def load_model(path: str | Path, device: str = "cpu", engine: str = "native") -> PointModel:
    """The network in a folder, in eval mode.

    Args:
        path: an artifact of distill or finetune, or an exported or imported folder.
        device: torch device.
        engine: a sparse engine that runs there (``lima doctor`` lists them); all give the same up to rounding.

    Raises:
        CheckpointError: no such folder, or one that is cut short, of an unknown architecture, not what its own
            ``model.json`` says, or holds values that are not finite.
    """
    path = Path(path)
    if (path / "model").is_dir():
        model = _segmentation_model(path / "model", engine)
    elif (path / "backbone").is_dir():
        model = _student(path, engine)
    else:
        remedy = "give an artifact of distill or finetune, or a folder from lima export or lima import"
        raise CheckpointError("holds no model", where=path, remedy=remedy)
    return model.to(device)


def _segmentation_model(folder: Path, engine: str) -> PointModel:
    meta = read_meta(folder)
    network = described_network(meta, folder)
    backbone = build_backbone(network.backbone, IN_CHANNELS, engine)
    head = build_head(LinearHeadConfig(), backbone.out_channels, len(described_classes(meta, folder)))
    parts = nn.ModuleDict({"backbone": backbone, "head": head})
    fill(parts, meta, folder)
    return PointModel(backbone, head, network.voxels, meta)


def _student(path: Path, engine: str) -> PointModel:
    folder, head = path / "backbone", None
    meta = read_meta(folder)
    network = described_network(meta, folder)
    backbone = build_backbone(network.backbone, IN_CHANNELS, engine)
    fill(backbone, meta, folder)
    if (path / "head").is_dir():
        head_meta = read_meta(path / "head")
        config, channels = described_head(head_meta, path / "head")
        head = build_head(config, backbone.out_channels, channels)
        fill(head, head_meta, path / "head")
    return PointModel(backbone, head, network.voxels, meta)


def fill(module: nn.Module, meta: dict[str, Any], folder: Path) -> None:
    """Gives ``module`` the weights in ``folder``, after checking that they are the ones that were written.

    Raises:
        CheckpointError: cut short, another file than ``model.json`` was written with, another architecture, or values
            that are not finite.
    """
    tensors = read_weights(folder)
    if meta.get("sha256", wanted := file_sha256(folder / WEIGHTS)) != wanted:
        what = f"{WEIGHTS} is not the file that model.json was written with (sha256 differs)"
        raise CheckpointError(what, where=folder, remedy="fetch the folder again")
    require_match(tensors, module.state_dict(), folder)
    require_finite(tensors, folder)
    with torch.no_grad():
        module.load_state_dict(tensors)


def require_finite(tensors: dict[str, Tensor], where: object) -> None:
    """Raises a CheckpointError that names the first tensor with a value that is not finite."""
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            bad = int((~tensor.isfinite()).sum())
            what = f"{name} has {bad} values that are not finite"
            raise CheckpointError(what, where=where, remedy="its training failed, or the file is damaged")


def file_sha256(path: Path) -> str:
    """Of a file's bytes, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
