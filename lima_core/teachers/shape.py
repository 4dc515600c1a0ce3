"""Channels, patch and weights of a teacher as far as its config tells them, without loading or downloading anything."""

import json
import re
from pathlib import Path
from typing import NamedTuple

from lima_core.teachers.filterbank import FilterbankConfig
from lima_core.teachers.huggingface import SHAPES, HuggingFaceConfig

PATCH_PX = {"dinov2": 14, "dinov3": 16}
"""By family; other Vision Transformers say it in their name (``patch16``)."""


class TeacherShape(NamedTuple):
    """What a teacher's cost depends on."""

    channels: int
    patch_px: int
    num_parameters: int


def teacher_shape(config: FilterbankConfig | HuggingFaceConfig) -> TeacherShape | None:
    """Of the config, a local folder's ``config.json``, or a name such as ``facebook/dinov2-base``; else None."""
    if isinstance(config, FilterbankConfig):
        return TeacherShape(config.channels, config.patch_px, 0)
    file = Path(config.model).expanduser() / "config.json"
    if config.architecture is None and file.is_file():
        return _of_file(file)
    return _of_name(config.architecture or config.model)


def _of_file(file: Path) -> TeacherShape | None:
    try:
        found = json.loads(file.read_text())
        return _shape(int(found["hidden_size"]), int(found["num_hidden_layers"]), int(found["patch_size"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # building the teacher says what is wrong


def _of_name(name: str) -> TeacherShape | None:
    name = name.lower().replace("vits", "small").replace("vitb", "base").replace("vitl", "large")
    width = next((SHAPES[word] for word in SHAPES if re.search(rf"(^|[-/]){word}", name)), None)
    family = next((PATCH_PX[word] for word in PATCH_PX if word in name), None)
    stated = re.search(r"patch(\d+)", name)
    patch_px = family or (int(stated[1]) if stated else None)
    return _shape(width[0], width[1], patch_px) if width and patch_px else None


def _shape(channels: int, depth: int, patch_px: int) -> TeacherShape:
    """A block has 12 channels^2 weights: 4 in attention, 8 in the two layers of its MLP."""
    return TeacherShape(channels, patch_px, 12 * depth * channels**2)
