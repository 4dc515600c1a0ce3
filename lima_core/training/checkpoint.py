"""Weights on disk: ``<folder>/weights.safetensors`` and ``<folder>/model.json``, which says what they are."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lima_core.errors import CheckpointError
from lima_core.whole import appears_whole, remove

WEIGHTS, META = "weights.safetensors", "model.json"


def plain_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU that share no memory, as safetensors wants them."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def save_weights(path_dir: Path, module: nn.Module, meta: dict[str, Any]) -> None:
    """Writes all tensors of ``module`` and ``meta`` (JSON-able) as a whole folder, replacing an older one."""
    save_tensors(path_dir, module.state_dict(), meta)


def save_tensors(path_dir: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """As ``save_weights``, for tensors without a module."""
    remove(path_dir)
    with appears_whole(path_dir) as partial:
        partial.mkdir()
        save_file(plain_tensors(tensors), partial / WEIGHTS)
        text = json.dumps(meta, indent=1, sort_keys=True, allow_nan=False)
        (partial / META).write_text(text + "\n")


def read_meta(path_dir: Path) -> dict[str, Any]:
    """What the weights in ``path_dir`` say about themselves.

    Raises:
        CheckpointError: the folder holds no readable ``model.json``, or one that is no JSON object.
    """
    remedy = "give a folder with model.json"
    try:
        meta = json.loads((path_dir / META).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # ValueError: neither JSON nor text
        what = f"no checkpoint here ({type(error).__name__})"
        raise CheckpointError(what, where=path_dir, remedy=remedy) from error
    if not isinstance(meta, dict):
        raise CheckpointError(f"{META} holds a {type(meta).__name__}, not an object", where=path_dir, remedy=remedy)
    return meta


def read_weights(path_dir: Path) -> dict[str, Tensor]:
    """All tensors in ``path_dir``, on the CPU.

    Raises:
        CheckpointError: the weights are missing or cut short.
    """
    try:
        return load_file(path_dir / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"unreadable {WEIGHTS}: {error}", where=path_dir, remedy="build it again") from error


def mismatches(stored: dict[str, Tensor], wanted: dict[str, Tensor]) -> list[str]:
    """One phrase for every tensor that is missing, not wanted or of another shape."""
    lines = [f"{name} is missing" for name in wanted if name not in stored]
    lines += [f"{name} is not part of this model" for name in stored if name not in wanted]
    both = [name for name in wanted if name in stored and stored[name].shape != wanted[name].shape]
    lines += [f"{name} is {tuple(stored[name].shape)}, not {tuple(wanted[name].shape)}" for name in both]
    return lines


def require_match(stored: dict[str, Tensor], wanted: dict[str, Tensor], where: object) -> None:
    """Raises a CheckpointError that names the first three differences, if there are any."""
    lines = mismatches(stored, wanted)
    if lines:
        shown = "; ".join(lines[:3]) + (f"; and {len(lines) - 3} more" if len(lines) > 3 else "")
        remedy = "use the backbone config that the checkpoint was made with (its model.json)"
        raise CheckpointError(f"weights of another architecture: {shown}", where=where, remedy=remedy)
