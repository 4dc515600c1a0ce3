"""Batches are dataclasses of tensors, of tuples and of such dataclasses; here is what happens to all their tensors."""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value")


def map_tensors(function: Callable[[Tensor], Tensor], value: Value) -> Value:
    """The same batch with ``function`` of each of its tensors."""
    parts: Any = value
    if isinstance(parts, Tensor):
        return function(parts)
    if isinstance(parts, tuple | list):
        return type(parts)(map_tensors(function, part) for part in parts)
    if is_dataclass(parts):
        values = {field.name: map_tensors(function, getattr(parts, field.name)) for field in fields(parts)}
        return replace(parts, **values)
    return value


def tensors_of(value: Any) -> Iterator[Tensor]:
    """All tensors of a batch."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors_of(part)
    elif is_dataclass(value):
        for field in fields(value):
            yield from tensors_of(getattr(value, field.name))


def moved(value: Value, device: torch.device | str) -> Value:
    """The same batch with its tensors on ``device``; from page-locked memory the copy is not waited for."""
    return map_tensors(lambda tensor: tensor.to(device, non_blocking=True), value)


def num_bytes(value: Any) -> int:
    """Of the tensors of a batch."""
    return sum(tensor.nbytes for tensor in tensors_of(value))
