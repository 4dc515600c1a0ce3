"""The basis of codec ``pca<D>``: one for the whole store, fitted to a streamed sample of tokens, at ``basis.zarr``.

What is taught is the direction of a feature, so every token of the sample counts with length 1: the D directions are
those that keep most of the squared cosine between a token and its projection. No mean is taken off: it is worth about
as much as one more direction (0.0001 of cosine at D = 64), and without it lengths, zeros and weighted means survive the
projection, so that pooling may be done on coefficients. The sample leaves one (C, C) matrix in memory.

Its ``zarr.json`` carries the CRC-32C of the values, as the attribute ``crc32c``: so two bases differ in the file that
says that one is whole, and an object storage never takes another one for the same.
"""

from collections.abc import Iterable

import numpy as np

from lima_core.checksums import STAMP, bytes_sum, is_sealed
from lima_core.errors import StoreError
from lima_core.storage import Location
from lima_core.stores.row_array import REMEDY, RowArray, write_array
from lima_core.whole import appears_whole


def fit_basis(tokens: Iterable[np.ndarray], channels: int, num_directions: int) -> np.ndarray:
    """Basis (D, C) float32 of orthonormal rows, the strongest first.

    Args:
        tokens: batches (..., C) float32, finite, read once; tokens of length 0 do not count.
        channels: C.
        num_directions: D, at most C.
    """
    moment = np.zeros((channels, channels))
    for batch in tokens:
        rows = batch.reshape(-1, channels).astype(np.float64)
        lengths = np.sqrt((rows * rows).sum(axis=1))
        unit = rows[lengths > 0] / lengths[lengths > 0, None]
        moment += unit.T @ unit
    vectors = np.linalg.eigh(moment)[1][:, ::-1][:, :num_directions].T
    # An eigenvector's sign is arbitrary; its largest entry is made positive so that every machine agrees.
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], axis=1)
    return np.ascontiguousarray(vectors * np.sign(largest), dtype=np.float32)


def has_basis(artifact: Location) -> bool:
    """Whether the basis is there, and therefore whole."""
    return is_sealed(_folder(artifact))


def write_basis(artifact: Location, basis: np.ndarray) -> None:
    """Stores ``basis`` (D, C) float32; it appears whole."""
    with appears_whole(_folder(artifact)) as partial:
        values = basis.astype(np.float32)
        write_array(partial, values, {STAMP: bytes_sum(values.tobytes()).crc32c})


def read_basis(artifact: Location, shape: tuple[int, int]) -> np.ndarray:
    """The stored basis, (D, C) float32.

    Raises:
        StoreError: it is missing, unreadable, not of ``shape``, or not what its checksum says.
    """
    array, remedy = RowArray(_folder(artifact)), "remove the artifact and build it again"
    if array.shape != shape:
        raise StoreError(f"basis of shape {array.shape} instead of {shape}", where=array.folder, remedy=remedy)
    basis = array.read(0, len(array))
    if array.attributes.get(STAMP) not in (None, bytes_sum(basis.tobytes()).crc32c):
        raise StoreError("values are not those of its checksum", where=array.folder, remedy=REMEDY)
    return basis


def _folder(artifact: Location) -> Location:
    """Beside the store, not in it: there, every folder is a scene."""
    return artifact / "basis.zarr"
