import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from lima_core.datasets import adapter
from lima_core.datasets.adapter import read_image, read_labels, read_points
from lima_core.errors import DataError

COLUMNS = ("x", "y", "z", "intensity", "ring")


def scan(path: Path, num_points: int = 7) -> np.ndarray:
    rows = np.arange(num_points * 5, dtype=np.float32).reshape(-1, 5)
    rows.tofile(path)
    return rows


def jpeg(path: Path) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (36, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, format="jpeg")
    return path.read_bytes()


def message(call: object, *args: object) -> str:
    with pytest.raises(DataError) as caught:
        call(*args)
    return str(caught.value)


def test_points_are_picked_by_column_name(tmp_path: Path) -> None:
    rows = scan(tmp_path / "a.bin")
    np.testing.assert_array_equal(read_points(tmp_path / "a.bin", "float32", COLUMNS), rows[:, :4])
    turned = ("ring", "intensity", "z", "y", "x")
    np.testing.assert_array_equal(read_points(tmp_path / "a.bin", "float32", turned), rows[:, [4, 3, 2, 1]])


def test_float64_points_become_float32(tmp_path: Path) -> None:
    np.full((2, 4), 0.1).tofile(tmp_path / "a.bin")
    points = read_points(tmp_path / "a.bin", "float64", adapter.POINT_COLUMNS)
    assert points.dtype == np.float32 and np.all(points == np.float32(0.1))


def test_missing_scan(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    assert message(read_points, path, "float32", COLUMNS, "f7") == (
        f"{path} (frame f7): cannot be read: No such file or directory"
    )


def test_truncated_scan(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    scan(path)
    path.write_bytes(path.read_bytes()[:-6])
    assert message(read_points, path, "float32", COLUMNS, "f7") == (
        f"{path} (frame f7): is truncated: 134 bytes, 14 more than whole rows of 20; copy the file again"
    )


def test_empty_scan(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.touch()
    assert message(read_points, path, "float32", COLUMNS, "f7") == (
        f"{path} (frame f7): the scan holds no point; leave this frame out"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scan_with_points_that_are_not_finite(tmp_path: Path, value: float) -> None:
    path = tmp_path / "a.bin"
    rows = scan(path)
    rows[3, 2] = rows[5, 0] = rows[5, 3] = value
    rows.tofile(path)
    assert message(read_points, path, "float32", COLUMNS, "f7") == (
        f"{path} (frame f7): 2 of 7 points are not finite, the first in row 3; remove those points and their labels"
    )


def test_column_that_is_not_kept_may_hold_anything(tmp_path: Path) -> None:
    rows = scan(tmp_path / "a.bin")
    rows[:, 4] = np.nan
    rows.tofile(tmp_path / "a.bin")
    assert len(read_points(tmp_path / "a.bin", "float32", COLUMNS)) == 7


def test_labels_must_match_the_points(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    np.arange(6, dtype=np.uint16).tofile(path)
    np.testing.assert_array_equal(read_labels(path, "uint16", 6), np.arange(6))
    assert message(read_labels, path, "uint16", 7, "f7") == (
        f"{path} (frame f7): holds 12 bytes, 7 points need 14 (uint16)"
    )


def test_image_is_rgb(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 5, 3), pixels)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png", 5, 3), pixels[..., :1].repeat(3, axis=2))


def test_missing_image(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    assert message(read_image, path, 64, 36) == (
        f"{path}: cannot be read: No such file or directory; copy the file again"
    )


def test_truncated_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(path)[:-900])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    got = message(read_image, path, 64, 36)
    assert got.startswith(f"{path}: cannot be read: image file is truncated") and got.endswith("; copy the file again")


def test_no_image(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(io.BytesIO(b"<html>404</html>").read())
    assert message(read_image, path, 64, 36) == f"{path}: is no image that can be read; copy the file again"


def test_image_of_another_size(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    jpeg(path)
    assert message(read_image, path, 1600, 900) == f"{path}: image is 64x36, its calibration says 1600x900"


def test_large_tables_are_sampled_and_still_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "WHOLE_TABLE_BYTES", 1 << 20)
    table = tmp_path / "big.json"
    content = bytearray(3 << 20)
    table.write_bytes(content)
    before = adapter.digest_files(tmp_path, [table], [])
    content[-1] = 1
    table.write_bytes(content)
    assert adapter.digest_files(tmp_path, [table], []) != before
