"""The text files of the KITTI odometry layout: calib.txt, and one line of numbers a scan in times.txt and poses.txt."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lima_core.datasets import adapter
from lima_core.errors import DataError
from lima_core.geometry import se3


def read_calibration(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Geometry of the left colour camera.

    Returns:
        intrinsics (3, 3) pixels; lidar_from_camera (4, 4), the left colour camera in the LiDAR frame; lidar_from_grey
        (4, 4), the left grey camera, in whose frame poses.txt is. float64, metres.

    Raises:
        DataError: a key is missing or holds no twelve finite numbers, P2 is no projection of a rectified camera, or Tr
            is no rigid motion.
    """
    matrices = _read_matrices(path)
    for key in ("P2", "Tr"):
        if key not in matrices:
            remedy = "use calib.txt of the odometry benchmark (P0 to P3 and Tr)"
            raise DataError(f"no key {key!r}", where=path, remedy=remedy)
    intrinsics = matrices["P2"][:, :3]
    if not (np.array_equal(intrinsics[2], [0, 0, 1]) and intrinsics[0, 0] > 0 and intrinsics[1, 1] > 0):
        raise DataError("key 'P2': is no projection of a rectified camera", where=path)
    camera_from_grey = se3.from_rotation_translation(np.eye(3), np.linalg.solve(intrinsics, matrices["P2"][:, 3]))
    grey_from_lidar = se3.from_rotation_translation(matrices["Tr"][:, :3], matrices["Tr"][:, 3])
    if not se3.is_rigid(grey_from_lidar):
        raise DataError("key 'Tr': is no rigid motion (rotation not orthonormal)", where=path)
    return intrinsics, se3.invert(camera_from_grey @ grey_from_lidar), se3.invert(grey_from_lidar)


def read_rows(path: Path, num_columns: int, numbers: Sequence[int]) -> np.ndarray:
    """(F, num_columns) float64: the lines of the scans with the given numbers, the first line being scan 0.

    Raises:
        DataError: fewer lines than scans, or a line that holds other than so many finite numbers.
    """
    lines = _text(path).splitlines()
    if numbers and max(numbers) >= len(lines):
        what = f"has {len(lines)} lines, scan {max(numbers):06d} needs line {max(numbers) + 1}"
        raise DataError(what, where=path, remedy="copy the file again, or remove the scans beyond it")
    rows = [_floats(lines[number], num_columns, f"{path}:{number + 1}") for number in numbers]
    return np.array(rows, dtype=np.float64).reshape(-1, num_columns)


def _read_matrices(path: Path) -> dict[str, np.ndarray]:
    """(3, 4) by key; KITTI raw and detection files hold other keys beside."""
    lines = [(number, line.partition(":")) for number, line in enumerate(_text(path).splitlines(), 1) if line.strip()]
    wanted = [(number, key.strip(), values) for number, (key, _, values) in lines if key.strip() in ("P2", "Tr")]
    return {key: np.array(_floats(values, 12, f"{path}:{number}")).reshape(3, 4) for number, key, values in wanted}


def _floats(text: str, expected: int, where: str) -> list[float]:
    try:
        values = [float(word) for word in text.split()]
    except ValueError as error:
        raise DataError(str(error), where=where, remedy=f"expected {expected} numbers") from error
    if len(values) != expected:
        raise DataError(f"holds {len(values)} numbers, expected {expected}", where=where)
    if not np.isfinite(values).all():
        raise DataError("holds a number that is not finite", where=where)
    return values


def _text(path: Path) -> str:
    try:
        return adapter.file_bytes(path, "").decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 text: {error.reason}", where=path) from error
