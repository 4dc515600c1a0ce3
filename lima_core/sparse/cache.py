"""A dictionary of things worked out once."""

from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


class Cache:
    """Values by key, each built the first time it is asked for."""

    def __init__(self) -> None:
        self._values: dict[tuple, object] = {}

    def get(self, key: tuple, build: Callable[[], Value]) -> Value:
        """The value under ``key``."""
        if key not in self._values:
            self._values[key] = build()
        return self._values[key]
