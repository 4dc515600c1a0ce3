"""What a data set offers, and the readers that all of them share.

A reader never repairs: a file that is missing, truncated, empty or not finite is a DataError that names file and frame.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from lima_core.errors import DataError
from lima_core.types import Camera, DatasetFacts, Frame

POINT_COLUMNS = ("x", "y", "z", "intensity")
"""Columns of every scan once it is read, whatever the file holds besides."""

WHOLE_TABLE_BYTES = 64 << 20
"""Tables up to this size are hashed whole; of larger ones (nuScenes' sample_data is 1 GB) blocks are sampled."""


Poses = Literal["recorded", "estimated"]
"""Where poses come from: the data set's own files, or odometry over its scans (``lima_core.poses.odometry``)."""


class Dataset(Protocol):
    """One data set on disk. Cheap to open: tables are read when ``scenes`` or ``frames`` asks for them."""

    @property
    def facts(self) -> DatasetFacts:
        """Name, classes, cameras: what travels with every artifact made from this data."""

    def digest(self) -> str:
        """sha256 over the tables' bytes and the names and sizes of the sensor files: changes when the data does."""

    def scenes(self) -> list[str]:
        """Scene names in file order."""

    def frames(self, scene: str) -> list[Frame]:
        """Key frames of a scene in time order, each with its split."""

    def check_files(self, frame: Frame) -> list[str]:
        """One line for every file of the frame that is missing, empty or truncated; opens none of them."""

    def load_points(self, frame: Frame) -> np.ndarray:
        """(N, 4) float32: x, y, z in metres in the LiDAR frame, and intensity as recorded."""

    def load_labels(self, frame: Frame) -> np.ndarray:
        """(N,) uint8 train ids, IGNORE where a point has no class."""

    def load_image(self, camera: Camera) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""

    def load_pixel_classes(self, camera: Camera) -> np.ndarray | None:
        """(H, W) uint8 train ids of every pixel; None except in worlds that know them."""

    def load_moving(self, frame: Frame) -> np.ndarray | None:
        """(N,) bool, which points lie on something that moves; None where neither labels nor a world say so."""


class ScanSource(Dataset, Protocol):
    """A data set whose poses can be estimated from its scans.

    Then ``facts.poses`` is ``estimated`` and every frame lies in its own LiDAR frame: ``global_from_lidar`` is the
    identity and ``global_from_camera`` the calibration lidar_from_camera, until stage index places it.
    """

    def scans(self, scene: str) -> list[Frame]:
        """All scans of a scene in time order, key frame or not, without labels and cameras."""


def about(path: Path, frame: str) -> str:
    """``path (frame x)``: where a message points to."""
    return f"{path} (frame {frame})" if frame else str(path)


def file_bytes(path: Path, frame: str) -> bytes:
    """The whole file.

    Raises:
        DataError: missing or not readable.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=about(path, frame)) from error


def size_problem(path: Path, row_bytes: int = 1) -> str | None:
    """What is wrong with the size of a file of ``row_bytes`` long rows, or None; the file is not opened."""
    try:
        num_bytes = path.stat().st_size
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if num_bytes == 0:
        return "is empty"
    over = num_bytes % row_bytes
    return f"is truncated: {num_bytes} bytes, {over} more than whole rows of {row_bytes}" if over else None


def num_rows(path: Path, row_bytes: int, frame: str = "") -> int:
    """Rows of a raw binary file, by its size.

    Raises:
        DataError: missing, empty or truncated.
    """
    if problem := size_problem(path, row_bytes):
        raise DataError(problem, where=about(path, frame), remedy="copy the file again")
    return path.stat().st_size // row_bytes


def read_points(path: Path, dtype: str, columns: Sequence[str], frame: str = "") -> np.ndarray:
    """(N, 4) float32 x, y, z (metres, LiDAR frame) and intensity of a raw binary scan.

    Args:
        path: rows of ``columns``, without a header.
        dtype: NumPy name of every column's type.
        columns: names in file order; all of ``POINT_COLUMNS`` are among them.
        frame: token for messages.

    Raises:
        DataError: missing, truncated, no point, or a point that is not finite.
    """
    row_bytes = np.dtype(dtype).itemsize * len(columns)
    raw = file_bytes(path, frame)
    if over := len(raw) % row_bytes:
        what = f"is truncated: {len(raw)} bytes, {over} more than whole rows of {row_bytes}"
        raise DataError(what, where=about(path, frame), remedy="copy the file again")
    rows = np.frombuffer(raw, dtype=dtype).reshape(-1, len(columns))
    if len(rows) == 0:
        raise DataError("the scan holds no point", where=about(path, frame), remedy="leave this frame out")
    points = rows[:, [list(columns).index(name) for name in POINT_COLUMNS]].astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(bad):
        what = f"{len(bad)} of {len(points)} points are not finite, the first in row {bad[0]}"
        raise DataError(what, where=about(path, frame), remedy="remove those points and their labels")
    return points


def read_labels(path: Path, dtype: str, num_points: int, frame: str = "") -> np.ndarray:
    """(N,) raw ids, one for each point of the scan, in the file's own type.

    Raises:
        DataError: missing, or as many ids as there are points it does not hold.
    """
    raw = file_bytes(path, frame)
    itemsize = np.dtype(dtype).itemsize
    if len(raw) != num_points * itemsize:
        what = f"holds {len(raw)} bytes, {num_points} points need {num_points * itemsize} ({dtype})"
        raise DataError(what, where=about(path, frame))
    return np.frombuffer(raw, dtype=dtype)


def read_image(path: Path, width_px: int, height_px: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB.

    Raises:
        DataError: missing, truncated, no image, or of another size than the calibration says.
    """
    try:
        with Image.open(path) as image:
            if image.size != (width_px, height_px):
                got, expected = "x".join(map(str, image.size)), f"{width_px}x{height_px}"
                raise DataError(f"image is {got}, its calibration says {expected}", where=path)
            return np.array(image.convert("RGB"))
    except UnidentifiedImageError as error:
        raise DataError("is no image that can be read", where=path, remedy="copy the file again") from error
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise DataError(what, where=path, remedy="copy the file again") from error


def digest_files(root: Path, tables: Sequence[Path], folders: Sequence[Path]) -> str:
    """sha256 over the bytes of ``tables`` and over names and sizes of all files below ``folders``.

    Independent of the data root's own path and of file times, so a copy elsewhere has the same digest.
    """
    digest = hashlib.sha256()
    for table in sorted(tables):
        digest.update(f"{table.relative_to(root)} {table.stat().st_size}\n".encode())
        _update_with_table(digest, table)
    for folder in sorted(folders):
        for name, num_bytes in sorted(_names_and_sizes(folder)):
            digest.update(f"{folder.relative_to(root)}/{name} {num_bytes}\n".encode())
    return digest.hexdigest()


def _update_with_table(digest: "hashlib._Hash", table: Path) -> None:
    num_bytes = table.stat().st_size
    with table.open("rb") as file:
        if num_bytes <= WHOLE_TABLE_BYTES:
            digest.update(file.read())
            return
        block, num_blocks = 1 << 18, 64
        for index in range(num_blocks):
            file.seek((num_bytes - block) * index // (num_blocks - 1))
            digest.update(file.read(block))


def _names_and_sizes(folder: Path, prefix: str = "") -> Iterator[tuple[str, int]]:
    try:
        with os.scandir(folder) as opened:
            entries = list(opened)
        for entry in entries:
            if entry.is_dir():
                yield from _names_and_sizes(Path(entry.path), f"{prefix}{entry.name}/")
            else:
                yield f"{prefix}{entry.name}", entry.stat().st_size
    except OSError as error:
        raise DataError(f"cannot be listed: {error.strerror}", where=error.filename or folder) from error
