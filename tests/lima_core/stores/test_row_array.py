import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from lima_core.errors import StoreError
from lima_core.seeds import numpy_rng
from lima_core.stores.row_array import DTYPES, RowArray, RowArrayWriter, write_array

SHAPES = [(), (2,), (3, 5)]


def values_of(dtype: str, row_shape: tuple[int, ...] = (3, 5)) -> np.ndarray:
    return (100 * numpy_rng(0, "rows").normal(size=(7, *row_shape))).astype(dtype)


def read_array(folder: Path) -> np.ndarray:
    array = RowArray(folder)
    return array.read(0, len(array))


def write(folder: Path, values: np.ndarray, chunk_rows: int = 1) -> None:
    with RowArrayWriter(folder, values.shape[1:], values.dtype.name, chunk_rows) as writer:
        for block in np.split(values, [1, 4]):
            writer.append(block)


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@pytest.mark.parametrize("chunk_rows", [1, 3, 7, 100])
@pytest.mark.parametrize("row_shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_zarr_reads_what_is_written(tmp_path: Path, dtype: str, row_shape: tuple[int, ...], chunk_rows: int) -> None:
    values = values_of(dtype, row_shape)
    write(tmp_path / "x", values, chunk_rows)
    array = zarr.open_array(tmp_path / "x", mode="r")
    np.testing.assert_array_equal(array[...], values)
    np.testing.assert_array_equal(array[2:5], values[2:5])
    assert array.chunks == (chunk_rows, *row_shape)
    np.testing.assert_array_equal(read_array(tmp_path / "x"), values)


@pytest.mark.parametrize("dtype", ["int8", "float16", "int64"])
def test_bytes_are_those_that_zarr_writes(tmp_path: Path, dtype: str) -> None:
    values = values_of(dtype)
    write(tmp_path / "ours", values)
    options = {"shape": values.shape, "chunks": (1, 3, 5), "shards": values.shape, "dtype": dtype, "zarr_format": 3}
    zarr.create_array(tmp_path / "zarr", compressors=None, **options)[...] = values
    ours, theirs = ({p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*") if p.is_file()}
                    for n in ("ours", "zarr"))  # fmt: skip
    assert ours == theirs


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_slices(tmp_path: Path, dtype: str) -> None:
    values = values_of(dtype)
    write(tmp_path / "x", values, 3)
    array = RowArray(tmp_path / "x")
    for start, stop in ((0, 7), (0, 1), (3, 5), (6, 7), (4, 4)):
        part = array.read(start, stop)
        np.testing.assert_array_equal(part, values[start:stop])
        assert part.flags.writeable  # torch.from_numpy warns otherwise


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (5, 8)])
def test_slices_outside_are_refused(tmp_path: Path, start: int, stop: int) -> None:
    write(tmp_path / "x", values_of("int8"))
    with pytest.raises(StoreError, match="7 rows"):
        RowArray(tmp_path / "x").read(start, stop)


def test_an_array_without_rows(tmp_path: Path) -> None:
    with RowArrayWriter(tmp_path / "x", (2,), "uint8", 4):
        pass
    assert read_array(tmp_path / "x").shape == (0, 2)
    assert zarr.open_array(tmp_path / "x", mode="r")[...].shape == (0, 2)


def test_read_errors_name_the_file(tmp_path: Path) -> None:
    write_array(tmp_path / "x", values_of("int8"))
    array = RowArray(tmp_path / "x")
    array.path = Path("/proc/self/mem")  # reading its first page is an input/output error
    with pytest.raises(StoreError, match=r"/proc/self/mem: cannot be read \(Input/output error\)"):
        array.read(0, 7)
    (tmp_path / "x/c/0/0/0").unlink()
    array.path = tmp_path / "x/c/0/0/0"
    with pytest.raises(StoreError, match=r"cannot be read \(No such file or directory\)"):
        array.read(0, 7)


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    write_array(tmp_path / "x", values_of("int8"))
    array, shard = RowArray(tmp_path / "x"), tmp_path / "x/c/0/0/0"
    shard.write_bytes(shard.read_bytes()[:50])
    with pytest.raises(StoreError, match=r"ends before row 7 of 7; run lima verify --repair"):
        array.read(0, 7)
    with pytest.raises(StoreError, match=r"truncated array: 50 bytes instead of 125; run lima verify --repair"):
        RowArray(tmp_path / "x")


def test_missing_array_and_other_layout_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="x: is missing"):
        RowArray(tmp_path / "x")
    zarr.create_array(tmp_path / "y", shape=(4, 2), chunks=(2, 2), dtype="i4", compressors=None)
    zarr.create_array(tmp_path / "z", shape=(4, 2), chunks=(2, 2), shards=(4, 2), dtype="i4")
    (tmp_path / "w").mkdir()
    (tmp_path / "w/zarr.json").write_text("{}")
    for name, what in (("y", "unreadable metadata"), ("z", "not one shard|unreadable"), ("w", "unreadable metadata")):
        with pytest.raises(StoreError, match=what):
            RowArray(tmp_path / name)


def sharding(told: dict) -> dict:
    return told["codecs"][0]["configuration"]


DAMAGES = {
    "no codec": lambda told: sharding(told).update(codecs=["bytes"]),
    "no chunk shape": lambda told: sharding(told).update(chunk_shape=[]),
    "chunks of no row": lambda told: sharding(told).update(chunk_shape=[0, 3, 5]),
    "chunks of a name": lambda told: sharding(told).update(chunk_shape=["a", 3, 5]),
    "negative": lambda told: (told.update(shape=[-7, 3, 5]), sharding(told).update(chunk_shape=[7, 3, 5])),
    "no shape": lambda told: told.update(shape=[]),
    "shape of a number": lambda told: told.update(shape=7),
    "half a row": lambda told: told.update(shape=[7.5, 3, 5]),
    "dtype of two": lambda told: told.update(data_type=["int8"]),
    "no grid": lambda told: told.update(chunk_grid=None),
    "attributes of a number": lambda told: told.update(attributes=3),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_metadata_are_one_line(tmp_path: Path, damage: Callable[[dict], object]) -> None:
    write_array(tmp_path / "x", values_of("int8"))
    told = json.loads((tmp_path / "x/zarr.json").read_text())
    damage(told)
    (tmp_path / "x/zarr.json").write_text(json.dumps(told))
    with pytest.raises(StoreError, match=r"/x(/zarr.json)?: (unreadable|not one shard)[^\n]*; run lima verify"):
        RowArray(tmp_path / "x")
    (tmp_path / "x/zarr.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(StoreError, match=r"zarr.json: unreadable metadata .*; run lima verify --repair$"):
        RowArray(tmp_path / "x")


def test_an_array_of_another_shape_or_dtype_is_told(tmp_path: Path) -> None:
    write_array(tmp_path / "x", values_of("int8"))
    array = RowArray(tmp_path / "x")
    array.require((7, 3, 5), "int8")
    array.require((None, 3, 5), "int8")
    for shape, dtype in (((7, 3), "int8"), ((7, 3, 5), "bool"), ((None, 3, 6), "int8"), ((8, 3, 5), "int8")):
        with pytest.raises(StoreError, match=r"/x: int8 of shape \(7, 3, 5\) instead of "):
            array.require(shape, dtype)


def test_what_failed_is_not_declared(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), RowArrayWriter(tmp_path / "x", (), "int8", 4) as writer:
        writer.append(np.zeros(3, np.int8))
        raise KeyboardInterrupt
    with pytest.raises(StoreError, match="is missing"):
        RowArray(tmp_path / "x")
