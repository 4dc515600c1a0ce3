"""The identity of an artifact: canonical recipe, digest, and the fields in which two recipes differ.

A permissive fallback (``str(value)``) would silently give one experiment two identities, or two experiments one, so
everything without an obvious canonical form is refused.  Idea: marin ``execution/fingerprint.py``.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from lima_core.errors import ConfigError

MISSING = object()
"""Stands for a field that only one of two recipes has."""


def canonical(value: Any, where: str = "recipe") -> Any:
    """JSON value of ``value``: None, bool, int, finite float, str, list, or dict with string keys.

    Raises:
        ConfigError: for callables, paths, sets, arrays, NaN and any other object without a canonical form.
    """
    if type(value) in (type(None), bool, int, str):
        return value
    if type(value) is float:
        return _finite(value, where)
    if isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {_key(key, where): canonical(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise ConfigError(
        f"{type(value).__name__} {str(value)[:60]!r} cannot enter a recipe",
        where=where,
        remedy="use numbers, text, lists and dicts; where and how a stage runs belongs in Resources",
    )


def digest(recipe: Any) -> str:
    """sha256 of the canonical recipe, 64 hexadecimal digits; the order of keys does not matter."""
    text = json.dumps(canonical(recipe), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def difference(old: Any, new: Any) -> list[str]:
    """One line per field in which two canonical recipes differ: ``config.voxel_size_m: 0.1 -> 0.2``."""
    return [f"{name}: {_show(before)} -> {_show(after)}" for name, before, after in changes(old, new)]


def changes(old: Any, new: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """Dotted name, old and new value of every field that differs; ``MISSING`` stands for a field the other side has."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        pairs = ((f"{name}.{key}" if name else key, old.get(key, MISSING), new.get(key, MISSING)) for key in keys)
        return [change for path, before, after in pairs for change in changes(before, after, path)]
    if type(old) is type(new) and old == new:
        return []
    return [(name, old, new)]


def _finite(value: float, where: str) -> float:
    if not math.isfinite(value):
        raise ConfigError(f"{value} cannot enter a recipe", where=where, remedy="give a finite number")
    return value


def _key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise ConfigError(f"key {key!r} is not text", where=where, remedy="use text as keys")
    return key


def _show(value: Any) -> str:
    return "(absent)" if value is MISSING else json.dumps(value, ensure_ascii=False)
