"""The upstream artifacts of a tiny folder data set, built by the real stages."""

from dataclasses import dataclass
from pathlib import Path

from lima_core.datasets.folder import FolderConfig
from lima_core.geometry.voxels import CartesianGrid
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.types import Resources
from stages import build_memory, extract_features, index
from tests.lima_core.datasets.tiny_folder import write_tiny_folder

BACKBONE = MinkUNetConfig(
    stem=4, encoder_widths=(4, 8), encoder_blocks=(1, 1), decoder_widths=(8, 6), decoder_blocks=(1, 1)
)
VOXELS = CartesianGrid(size_m=(2.0, 2.0, 2.0))
VOXEL_SIZE_M = 8.0
"""Random scans share voxels between frames only if voxels are large."""


@dataclass(frozen=True)
class Artifacts:
    """Where everything lies."""

    raw: Path
    index: Path
    features: Path
    memory: Path


def index_of(root: Path) -> tuple[Path, Path]:
    """Data root and index of a fresh tiny data set of the sequences a and b."""
    raw, out = root / "raw", root / "index"
    raw.mkdir()
    out.mkdir()
    write_tiny_folder(raw)
    index.run(index.Config(dataset=FolderConfig()), index.Inputs(raw), out, Resources())
    return raw, out


def artifacts(root: Path, frames: int = 3) -> Artifacts:
    """Everything that distill reads."""
    raw, frame_index = index_of(root)
    features, memory = root / "features", root / "memory"
    features.mkdir()
    memory.mkdir()
    config = extract_features.Config(image_size_px=(24, 40))
    extract_features.run(config, extract_features.Inputs(raw, frame_index), features, Resources())
    config = build_memory.Config(frames=frames, voxel_size_m=VOXEL_SIZE_M)
    build_memory.run(config, build_memory.Inputs(raw, frame_index), memory, Resources())
    return Artifacts(raw, frame_index, features, memory)
