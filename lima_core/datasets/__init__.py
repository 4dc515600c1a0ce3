"""Data sets: ``nuscenes`` (and worlds in its format), ``semantic_kitti``, ``folder`` (a user's own sensors)."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from lima_core.datasets.adapter import Dataset
from lima_core.datasets.folder import FolderConfig, FolderDataset
from lima_core.datasets.nuscenes import NuScenesConfig, NuScenesDataset
from lima_core.datasets.semantic_kitti import SemanticKittiConfig, SemanticKittiDataset
from lima_core.errors import DataError

DatasetConfig = Annotated[NuScenesConfig | SemanticKittiConfig | FolderConfig, Field(discriminator="name")]
"""The members of the family; a config's ``name`` picks one."""


def dataset_config(values: dict[str, Any]) -> DatasetConfig:
    """The config that a FrameIndex carries as a dict."""
    return TypeAdapter(DatasetConfig).validate_python(values)


def open_dataset(config: DatasetConfig, root: Path) -> Dataset:
    """The data set below ``root``; cheap, tables are read when they are needed.

    Raises:
        DataError: the folder is missing or holds no such data set.
    """
    if not root.is_dir():
        raise DataError("no such folder", where=root, remedy="set the data root to where the data set lies")
    match config:
        case NuScenesConfig():
            return NuScenesDataset(config, root)
        case SemanticKittiConfig():
            return SemanticKittiDataset(config, root)
        case FolderConfig():
            return FolderDataset(config, root)
