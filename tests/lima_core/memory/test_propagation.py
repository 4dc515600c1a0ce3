"""The window against brute force, and the promise that a long bank serves every shorter window."""

import numpy as np
import pytest

from lima_core.geometry.camera import project
from lima_core.stores.memory_bank import FrameBank
from tests.lima_core.memory.toy_drive import toy_drive


def brute_force(index: int, frames: int) -> set[tuple[int, int, int]]:
    """(voxel, age, camera) of everything that may teach frame ``index``."""
    drive = toy_drive()
    occupied = set(drive.voxels(index).tolist())
    found = set()
    for past in range(max(0, index - frames + 1), index + 1):
        visible = project(drive.frames[past], drive.points[past]).visible
        for camera, point in zip(*np.nonzero(visible), strict=True):
            key = int(drive.voxels(past)[point])
            if key in occupied:
                found.add((key, index - past, int(camera)))
    return found


@pytest.mark.parametrize(("index", "frames"), [(0, 3), (2, 1), (3, 3), (3, 9)])
def test_recall_equals_brute_force(index: int, frames: int) -> None:
    drive = toy_drive()
    bank = drive.bank(index, frames, "merged")
    key_of_target = {
        t: k for t, k in zip(bank.point_target.tolist(), drive.voxels(index).tolist(), strict=True) if t >= 0
    }
    found = [
        (key_of_target[target], age, camera)
        for target, age, camera in zip(bank.target_of_reference, bank.age.tolist(), bank.camera.tolist(), strict=True)
    ]
    assert len(found) == len(set(found))
    assert set(found) == brute_force(index, frames)
    assert found == sorted(found)


def test_points_outside_the_current_cameras_are_taught_by_the_past() -> None:
    drive = toy_drive()
    unseen_now = ~project(drive.frames[3], drive.points[3]).visible.any(axis=0)
    taught = {frames: (drive.bank(3, frames, "merged").point_target >= 0)[unseen_now].sum() for frames in (1, 4)}
    assert taught[4] > taught[1]


@pytest.mark.parametrize("references", ["merged", "points"])
def test_a_longer_bank_read_at_a_shorter_window_is_the_shorter_bank(references: str) -> None:
    drive = toy_drive()
    expected, found = drive.bank(3, 2, references), drive.bank(3, 4, references).within(2)
    for name in FrameBank.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
        assert getattr(found, name).dtype == getattr(expected, name).dtype, name
