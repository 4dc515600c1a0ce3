"""Tensors of a file that somebody else wrote; nothing in it is ever executed.

``torch.load(weights_only=True)`` builds tensors and plain containers only. Training frameworks also store bookkeeping:
numbers of NumPy, mmengine's loss curves. Their classes are not imported: an inert object takes their place.
"""

import re
import struct
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lima_core.errors import CheckpointError

BOOKKEEPING = (
    "builtins.getattr",
    "builtins.list",
    "builtins.set",
    "datetime.datetime",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
    "pathlib.PosixPath",
)
"""Globals that checkpoints of the peers name and weights do not need; each is read as an ``Inert``."""
DICTS = (
    "builtins.dict",
    "collections.defaultdict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "mmengine.config.config.ConfigDict",
    "mmcv.utils.config.ConfigDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "addict.addict.Dict",
)
"""Dicts with extras; each is read as an ``Entries``. PyTorch's reader fills in entries of exact types only."""

MALFORMED = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    AssertionError,
    struct.error,
)
"""What PyTorch's reader raises on bytes that it did not write."""


class Inert:
    """Stands for an object that is not wanted; takes all arguments and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> "Inert":
        """Whatever the file says, an empty object."""
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        """Keeps nothing."""

    def __setstate__(self, _: Any) -> None:
        """Keeps nothing."""


class Entries:
    """Stands for a dict of another class: makes a plain one with its entries, without its extras."""

    def __new__(cls, *values: Any, **__: Any) -> OrderedDict:
        """Filled from the first argument where that is a dict; else PyTorch's reader fills it."""
        return OrderedDict(values[0] if values and isinstance(values[0], dict) else ())


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors in a file, by name; of nested dicts the keys are joined by dots (``state_dict.backbone.conv1...``).

    Args:
        path: ``.safetensors``, or anything that ``torch.save`` wrote (.pt, .pth, .ckpt).

    Raises:
        CheckpointError: no such file, cut short, of another format, without tensors, or one that holds objects which
            would have to be executed to be read.
    """
    if not path.is_file():
        raise CheckpointError("no such file", where=path, remedy="give a .pth, .pt, .ckpt or .safetensors file")
    tensors = _read_safetensors(path) if path.suffix == ".safetensors" else dict(_flat(_read_torch(path), ""))
    if not tensors:
        raise CheckpointError("holds no tensors", where=path, remedy="give a file with a state dict")
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cut short or not safetensors ({error})", where=path, remedy="fetch it again") from None


def _read_torch(path: Path) -> Any:
    try:
        stand_ins = [(Inert, name) for name in BOOKKEEPING] + [(Entries, name) for name in DICTS]
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
            warnings.simplefilter("ignore")  # of pickle protocols that PyTorch did not write: they are refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise _refused(path, error) from None
    except MALFORMED as error:
        raise _broken(path, error) from None


def _broken(path: Path, error: Exception) -> CheckpointError:
    what = f"cut short or not written by torch.save ({type(error).__name__})"
    return CheckpointError(what, where=path, remedy="fetch it again, or give .safetensors")


def _refused(path: Path, error: UnpicklingError) -> CheckpointError:
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    if not found and not re.search("Can only|call reduce", str(error)):
        return _broken(path, error)
    name = f" ({found[1]})" if found else ""
    what = f"holds an object{name} that only running the file's own code can read, which is refused"
    remedy = "where you trust the file, save its state dict alone: safetensors.torch.save_file(state_dict, ...)"
    return CheckpointError(what, where=path, remedy=remedy)


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield prefix, value.detach()
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
