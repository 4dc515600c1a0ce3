from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lima_core.datasets import FolderConfig, open_dataset
from lima_core.poses.residual import dataset_residuals_cm, scan_residual_cm
from lima_core.types import Frame
from tests.lima_core.datasets.recordings import recording
from tests.lima_core.poses.small_street import motion, scan, street

A_FROM_B = motion(2.0, 0.1, 0.0, 1.5)


@pytest.fixture(scope="module")
def scans() -> tuple[np.ndarray, np.ndarray]:
    surface = street()
    return scan(surface, np.eye(4), 1), scan(surface, A_FROM_B, 2)


def residual(scans: tuple[np.ndarray, np.ndarray], error: np.ndarray) -> float:
    found = scan_residual_cm(*scans, error @ np.linalg.inv(A_FROM_B))
    assert found is not None
    return found


def test_exact_poses_leave_the_noise(scans: tuple) -> None:
    assert 0.3 < residual(scans, np.eye(4)) < 2.5


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("error_cm", [5, 10, 20, 50])
def test_a_shift_along_any_axis_is_read_in_centimetres(scans: tuple, axis: int, error_cm: float) -> None:
    shift = np.eye(4)
    shift[axis, 3] = error_cm / 100
    assert 0.8 * error_cm < residual(scans, shift) < error_cm + 2.5


def test_a_turn_is_seen_and_a_larger_one_more(scans: tuple) -> None:
    small, large = residual(scans, motion(yaw_deg=0.3)), residual(scans, motion(yaw_deg=1.0))
    assert residual(scans, np.eye(4)) + 1 < small < large


def test_odometry_that_stands_still_is_not_mistaken_for_a_good_pose(scans: tuple) -> None:
    """Road and fronts fit as before; only what stands across the street gives it away."""
    assert residual(scans, motion(-3.0)) == 100.0


def test_moving_objects_are_outvoted(scans: tuple) -> None:
    a, b = scans
    car = np.random.default_rng(3).uniform([8, -1, -1.5], [8.05, 1, 0], (300, 3)).astype(np.float32)
    moved = residual((np.concatenate([a, car]), np.concatenate([b, car + np.float32([0.5, 0, 0])])), np.eye(4))
    assert moved < 2.5


def test_points_of_the_ego_vehicle_and_far_ones_do_not_count(scans: tuple) -> None:
    """Both stand still in the LiDAR's frame, as its own bonnet does; far ones may be kilometres away."""
    rng = np.random.default_rng(4)
    bonnet = np.column_stack([np.full(4000, 1.5), rng.uniform(-1, 1, 4000), rng.uniform(-1, 0, 4000)])
    both = np.concatenate([bonnet, [[9e4, 0, 0]]]).astype(np.float32)
    assert residual(tuple(np.concatenate([cloud, both]) for cloud in scans), np.eye(4)) < 2.5


def test_too_little_to_compare() -> None:
    assert scan_residual_cm(np.ones((5, 3), np.float32) * 9, np.ones((5, 3), np.float32) * 9, np.eye(4)) is None
    cloud = np.random.default_rng(0).uniform(-40, 40, (2000, 3)).astype(np.float32)
    assert scan_residual_cm(cloud, cloud, np.eye(4)) is None


class Counted:
    """Scans of the street; remembers which frames were read."""

    def __init__(self) -> None:
        self.surface, self.read = street(), []

    def load_points(self, frame: Frame) -> np.ndarray:
        self.read.append(frame.token)
        return np.pad(scan(self.surface, frame.global_from_lidar, frame.index), ((0, 0), (0, 1)))


def frames(scene: str, number: int, pose: Callable[[int], np.ndarray]) -> list[Frame]:
    return [Frame(scene, i, f"{scene}{i}", "train", i, "", None, pose(i), ()) for i in range(number)]


def test_pairs_are_sampled_evenly_and_never_across_scenes() -> None:
    drive = frames("a", 5, lambda i: motion(0.5 * i)) + frames("b", 3, lambda i: motion(100.0)) + frames("c", 1, motion)
    counted = Counted()
    counted.surface = np.concatenate([counted.surface, counted.surface + np.array([100, 0, 0])])
    assert list(dataset_residuals_cm(counted, drive, max_pairs=3)) == [1, 3, 7]
    assert counted.read == ["a0", "a1", "a2", "a3", "b1", "b2"]
    assert dataset_residuals_cm(counted, drive[-1:]) == {}


@pytest.mark.real
def test_real_drive(real_data: Path) -> None:
    dataset = open_dataset(FolderConfig(), recording(real_data, "pandaset"))
    assert 1 < np.median(list(dataset_residuals_cm(dataset, dataset.frames("002"), 4).values())) < 5
