"""A part opened for reading: its ``zarr.json`` tells of all its arrays, so that one small read does for all of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lima_core.checksums import GROUP, read_group
from lima_core.errors import StoreError
from lima_core.storage import Location
from lima_core.stores.row_array import REMEDY, RowArray


class Part:
    """The arrays of a scene's group, by name."""

    def __init__(self, folder: Location) -> None:
        """Opens the part.

        Raises:
            StoreError: it is not there, or its ``zarr.json`` is not readable.
        """
        self.folder = folder
        consolidated = read_group(folder).get("consolidated_metadata", {})
        told = consolidated.get("metadata", {}) if isinstance(consolidated, dict) else None
        if not isinstance(told, dict):
            raise StoreError("unreadable metadata", where=folder / GROUP, remedy=REMEDY)
        self._told: dict[str, Any] = told

    def rows(self, name: str) -> RowArray:
        """An array, to be read by slices of rows.

        Raises:
            StoreError: it is missing, of another layout, or its file is truncated.
        """
        return RowArray(self.folder / name, self._told.get(name))

    def values(self, name: str, shape: Sequence[int | None], dtype: str) -> np.ndarray:
        """All rows of a small array of this shape (None: any length) and dtype.

        Raises:
            StoreError: as ``rows``, or the array is another.
        """
        array = self.rows(name)
        array.require(shape, dtype)
        return array.read(0, len(array))
