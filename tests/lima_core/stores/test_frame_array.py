from pathlib import Path

import numpy as np
import pytest
import zarr

from lima_core.errors import StoreError
from lima_core.seeds import numpy_rng
from lima_core.stores.frame_array import FrameArray, FrameArrayWriter

DTYPES = ["|i1", "<f2", "<f4", "<i8"]


def values_of(dtype: str) -> np.ndarray:
    return (100 * numpy_rng(0, "frames").normal(size=(7, 3, 5))).astype(dtype)


def write(folder: Path, values: np.ndarray) -> None:
    group = zarr.open_group(folder, mode="w", zarr_format=3)
    with FrameArrayWriter(group, folder, "x", values.shape, values.dtype.str) as writer:
        for frame in values:
            writer.append(frame)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zarr_reads_what_is_written(tmp_path: Path, dtype: str) -> None:
    values = values_of(dtype)
    write(tmp_path, values)
    array = zarr.open_group(tmp_path, mode="r")["x"]
    np.testing.assert_array_equal(array[...], values)
    np.testing.assert_array_equal(array[2:5], values[2:5])
    assert array.chunks == (1, 3, 5) and array.shards == (7, 3, 5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bytes_are_those_that_zarr_writes(tmp_path: Path, dtype: str) -> None:
    values = values_of(dtype)
    write(tmp_path / "ours", values)
    group = zarr.open_group(tmp_path / "zarr", mode="w", zarr_format=3)
    options = {"shape": values.shape, "chunks": (1, 3, 5), "shards": values.shape, "dtype": dtype}
    group.create_array("x", compressors=None, **options)[...] = values
    ours, theirs = ({p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*") if p.is_file()}
                    for n in ("ours", "zarr"))  # fmt: skip
    assert ours == theirs


@pytest.mark.parametrize("dtype", DTYPES)
def test_slices(tmp_path: Path, dtype: str) -> None:
    values = values_of(dtype)
    write(tmp_path, values)
    array = FrameArray(tmp_path, "x")
    for start, stop in ((0, 7), (0, 1), (3, 5), (6, 7)):
        part = array.read(start, stop)
        np.testing.assert_array_equal(part, values[start:stop])
        assert part.flags.writeable  # torch.from_numpy warns otherwise


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 3), (5, 8)])
def test_slices_outside_are_refused(tmp_path: Path, start: int, stop: int) -> None:
    write(tmp_path, values_of("|i1"))
    with pytest.raises(StoreError, match="7 frames"):
        FrameArray(tmp_path, "x").read(start, stop)


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, values_of("|i1"))
    shard = tmp_path / "x/c/0/0/0"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(StoreError, match="truncated"):
        FrameArray(tmp_path, "x")


def test_missing_array_and_other_layout_are_refused(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path, mode="w", zarr_format=3)
    group.create_array("y", shape=(4, 2), chunks=(2, 2), dtype="i4")
    with pytest.raises(StoreError, match="missing"):
        FrameArray(tmp_path, "x")
    with pytest.raises(StoreError, match="not one uncompressed shard"):
        FrameArray(tmp_path, "y")


def test_too_few_frames_are_a_bug(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path, mode="w", zarr_format=3)
    with (
        pytest.raises(AssertionError, match="1 of 2"),
        FrameArrayWriter(group, tmp_path, "x", (2, 3), "|i1") as writer,
    ):
        writer.append(np.zeros(3, np.int8))
