"""Folders of weights that leave the pipeline or come into it; laid out as the artifacts are (``models.pretrained``).

Their JSON says more than an artifact's own: where the weights come from, what they scored, and the sha256 of the file
beside it.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from lima_core.errors import ConfigError
from lima_core.geometry.voxels import CartesianGrid, CylindricalGrid
from lima_core.models.described import IN_CHANNELS, described_network
from lima_core.models.foreign.dialect import Dialect
from lima_core.models.foreign.exporting import in_dialect
from lima_core.models.foreign.importing import Imported
from lima_core.models.pretrained import file_sha256, load_model
from lima_core.training.checkpoint import META, WEIGHTS, plain_tensors, read_meta, save_tensors
from lima_core.whole import appears_whole, write_json

PARTS = ("model", "backbone", "head")


@dataclass(frozen=True)
class Facts:
    """What a file of another project does not say about its network."""

    voxels: CartesianGrid | CylindricalGrid
    method: str
    """How it was pretrained."""
    teacher: str
    source: dict[str, Any]
    """Which file it came from; into the JSON."""


def export_folder(source: Path, out: Path, extra: dict[str, Any]) -> None:
    """Copies the weights in ``source``, with ``extra`` in their JSON.

    Raises:
        CheckpointError: ``source`` holds no model that ``load_model`` can read.
        ConfigError: ``out`` is already there.
    """
    load_model(source)
    with _new_folder(out) as partial:
        for part in PARTS:
            if (source / part).is_dir():
                (partial / part).mkdir()
                shutil.copyfile(source / part / WEIGHTS, partial / part / WEIGHTS)
                _write_meta(partial / part, WEIGHTS, read_meta(source / part) | extra)


def export_foreign(source: Path, out: Path, dialect: Dialect, intensity_divisor: float, extra: dict[str, Any]) -> str:
    """Writes the weights in ``source`` to one safetensors file in another project's names and layout, JSON beside it.

    Returns:
        What became of the head.

    Raises:
        CheckpointError: ``source`` holds no model that ``load_model`` can read.
        ConfigError: the other project's code cannot build such a network, or ``out`` is already there.
    """
    model = load_model(source)
    head = _linear(model.head)
    tensors = in_dialect(
        model.backbone.state_dict(),
        head,
        described_network(model.meta, source).backbone,
        dialect,
        segmentation=bool(model.classes),
        intensity_divisor=intensity_divisor,
    )
    file = f"{dialect.name}.safetensors"
    said = {"kind": f"{dialect.name} state dict", "file": file, "intensity_divisor": intensity_divisor}
    with _new_folder(out) as partial:
        save_file(plain_tensors(tensors), partial / file)
        _write_meta(partial, file, model.meta | extra | said)
    if model.head is not None and head is None:
        return "left out: an MLP, which that project does not have"
    return "none" if head is None else "with the weights"


def save_import(imported: Imported, out: Path, facts: Facts) -> None:
    """Writes an imported network so that stage finetune can start from it and ``load_model`` can read it.

    Raises:
        ConfigError: ``out`` is already there.
    """
    meta = {
        "kind": "backbone",
        "method": facts.method,
        "teacher": facts.teacher,
        "in_channels": IN_CHANNELS,
        "voxels": facts.voxels.model_dump(mode="json"),
        "backbone": imported.config.model_dump(mode="json"),
        "imported": facts.source | {"report": imported.report()},
    }
    with _new_folder(out) as partial:
        _save(partial / "backbone", imported.backbone, meta)
        if imported.head is not None:
            weight, bias = imported.head
            head = {"kind": "head", "head": {"name": "linear"}, "channels": len(bias)}
            _save(partial / "head", {"0.weight": weight, "0.bias": bias}, head)


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    if out.exists():
        raise ConfigError("is already there", where=out, remedy="remove it, or choose another folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot be written ({error.strerror})", where=out, remedy="choose another folder") from None
    with appears_whole(out) as partial:
        partial.mkdir()
        yield partial


def _save(folder: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    save_tensors(folder, tensors, meta)
    _write_meta(folder, WEIGHTS, meta)


def _write_meta(folder: Path, file: str, meta: dict[str, Any]) -> None:
    write_json(folder / META, meta | {"sha256": file_sha256(folder / file)})


def _linear(head: nn.Module | None) -> tuple[Tensor, Tensor] | None:
    """Weight and bias of a head of one layer."""
    if not isinstance(head, nn.Sequential) or len(head) != 1:
        return None
    return head[0].weight.detach(), head[0].bias.detach()
