"""The basis of pca<D>: against an SVD of all tokens at once, and as a file."""

import json
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr

from lima_core.errors import StoreError
from lima_core.seeds import numpy_rng
from lima_core.storage import Location
from lima_core.stores.basis import fit_basis, has_basis, read_basis, write_basis
from lima_core.stores.codec import decode, project, token_cosines


def tokens(num: int = 600, channels: int = 48) -> np.ndarray:
    """(N, C) float32: power-law spectrum along random axes, two outlier channels, lengths over two decades."""
    rng = numpy_rng(0, "tokens")
    axes = np.linalg.qr(rng.normal(size=(channels, channels)))[0]
    values = rng.normal(size=(num, channels)) / np.arange(1, channels + 1) ** 0.7 @ axes
    values[:, [3, 40]] *= 20
    return (values * rng.lognormal(size=(num, 1))).astype(np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_rows_are_orthonormal() -> None:
    basis = fit_basis([tokens()], 48, 20)
    assert basis.shape == (20, 48) and basis.dtype == np.float32
    np.testing.assert_allclose(basis @ basis.T, np.eye(20), atol=1e-6)


def test_streamed_fit_is_the_svd_of_all_unit_tokens() -> None:
    rows = tokens()
    basis = fit_basis((part.reshape(1, -1, 48) for part in np.array_split(rows, 7)), 48, 12)
    right = np.linalg.svd(unit(rows.astype(np.float64)))[2][:12]
    np.testing.assert_allclose(np.abs((basis * right).sum(axis=1)), 1, atol=1e-5)
    assert (np.take_along_axis(basis, np.abs(basis).argmax(axis=1)[:, None], axis=1) > 0).all()


def test_length_of_a_token_does_not_count() -> None:
    rows = tokens()
    louder = rows * np.where(np.arange(len(rows)) % 9 == 0, 1000, 1).astype(np.float32)[:, None]
    np.testing.assert_allclose(fit_basis([louder], 48, 8), fit_basis([rows], 48, 8), atol=1e-4)


def test_no_other_basis_keeps_more_of_the_squared_cosine() -> None:
    rows = tokens()

    def kept(basis: np.ndarray) -> float:
        return float((token_cosines(decode(project(rows, basis), None, None, basis), rows) ** 2).mean())

    best = kept(fit_basis([rows], 48, 8))
    assert best > kept(np.linalg.svd(rows, full_matrices=False)[2][:8])
    assert best > kept(np.eye(48, dtype=np.float32)[np.argsort(-(unit(rows) ** 2).mean(0))[:8]])


@pytest.mark.parametrize("directions", [5, 9])
def test_low_rank_is_exact_from_its_rank_on(directions: int) -> None:
    rng = numpy_rng(1, "low rank")
    rows = (rng.normal(size=(200, 5)) @ rng.normal(size=(5, 48))).astype(np.float32)
    basis = fit_basis([rows], 48, directions)
    np.testing.assert_allclose(project(rows, basis) @ basis, rows, atol=1e-4)
    less = fit_basis([rows], 48, 4)
    assert np.abs(project(rows, less) @ less - rows).max() > 0.1


def test_tokens_without_length_do_not_count() -> None:
    rows = tokens(50)
    padded = np.concatenate([np.zeros((30, 48), np.float32), rows])
    np.testing.assert_allclose(fit_basis([padded], 48, 6), fit_basis([rows], 48, 6), atol=1e-6)


def test_file_holds_the_bits_and_is_refused_when_it_is_another(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"basis\.zarr: is missing; run lima verify --repair"):
        read_basis(tmp_path, (6, 48))
    assert not has_basis(tmp_path)
    basis = fit_basis([tokens()], 48, 6)
    write_basis(tmp_path, basis)
    assert has_basis(tmp_path)
    np.testing.assert_array_equal(read_basis(tmp_path, (6, 48)), basis)
    told = zarr.open_array(tmp_path / "basis.zarr", mode="r").attrs["crc32c"]
    assert told == f"{google_crc32c.value(basis.astype('<f4').tobytes()):08x}"
    with pytest.raises(StoreError, match=r"basis of shape \(6, 48\) instead of \(7, 48\)"):
        read_basis(tmp_path, (7, 48))


def test_other_values_are_told_and_a_basis_without_checksum_is_read(tmp_path: Path) -> None:
    write_basis(tmp_path, fit_basis([tokens()], 48, 6))
    values = tmp_path / "basis.zarr/c/0/0"
    data = bytearray(values.read_bytes())
    data[5] ^= 1
    values.write_bytes(data)
    with pytest.raises(StoreError, match=r"basis\.zarr: values are not those of its checksum; run lima verify"):
        read_basis(tmp_path, (6, 48))
    group = tmp_path / "basis.zarr/zarr.json"
    group.write_text(json.dumps(json.loads(group.read_text()) | {"attributes": {}}))
    assert read_basis(tmp_path, (6, 48)).shape == (6, 48)


def test_on_an_object_storage_another_basis_replaces_the_first(memory_work: Location) -> None:
    first, second = np.eye(2, 4, dtype=np.float32), np.eye(2, 4, k=1, dtype=np.float32)
    for basis in (first, second):
        write_basis(memory_work, basis)
        np.testing.assert_array_equal(read_basis(memory_work, (2, 4)), basis)
