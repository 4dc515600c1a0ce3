from pathlib import Path

import numpy as np
import pytest

from lima_core.datasets import FolderConfig, open_dataset
from lima_core.errors import DataError
from lima_core.poses import odometry
from lima_core.poses.odometry import estimate_trajectory
from lima_core.types import Frame
from tests.lima_core.datasets.recordings import recording
from tests.lima_core.poses.small_street import motion, scan, street

TRUTH = [motion(1.0 * i) for i in range(8)]


class Drive:
    """A drive along the street, as an adapter without poses gives it."""

    def __init__(self, poses: list[np.ndarray], interval_us: int = 100_000) -> None:
        surface = street()
        self.clouds = {f"{i}.bin": scan(surface, pose, i) for i, pose in enumerate(poses)}
        self.interval_us = interval_us

    def scans(self, scene: str) -> list[Frame]:
        return [
            Frame(scene, i, f"{scene}_{i}", "none", i * self.interval_us, name, None, np.eye(4), ())
            for i, name in enumerate(self.clouds)
        ]

    def load_points(self, frame: Frame) -> np.ndarray:
        return np.pad(self.clouds[frame.points], ((0, 0), (0, 1)))


@pytest.fixture(scope="module")
def drive() -> Drive:
    return Drive(TRUTH)


def test_the_motion_is_found_from_the_first_step_on(drive: Drive) -> None:
    found = estimate_trajectory(drive, "s")
    assert found.timestamp_us.tolist() == [100_000 * i for i in range(8)]
    np.testing.assert_array_equal(found.global_from_lidar[0], np.eye(4))
    error = np.linalg.inv(TRUTH) @ found.global_from_lidar
    assert np.linalg.norm(error[:, :3, 3], axis=1).max() < 0.05
    assert np.degrees(np.arccos(np.clip((np.trace(error[:, :3, :3], axis1=1, axis2=2) - 1) / 2, -1, 1))).max() < 0.3


def test_two_runs_give_the_same_bits(drive: Drive) -> None:
    one, two = (estimate_trajectory(drive, "s").global_from_lidar for _ in range(2))
    assert one.tobytes() == two.tobytes()


def test_no_setting_comes_from_the_environment(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = estimate_trajectory(drive, "s").global_from_lidar
    monkeypatch.setenv("KISS_ICP_MAPPING", '{"voxel_size": 9.0}')
    monkeypatch.setenv("KISS_ICP_ADAPTIVE_THRESHOLD", '{"initial_threshold": 0.1}')
    np.testing.assert_array_equal(estimate_trajectory(drive, "s").global_from_lidar, expected)


def test_a_long_sequence_says_how_far_it_is(
    drive: Drive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(odometry, "LINE_EVERY_S", 0.0)
    estimate_trajectory(drive, "s")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 8 - 1 and lines[3].startswith("poses of s 4/8 scans elapsed=") and "s eta=" in lines[3]


def test_a_single_scan_is_the_origin() -> None:
    np.testing.assert_array_equal(estimate_trajectory(Drive(TRUTH[:1]), "s").global_from_lidar, np.eye(4)[None])


def complaint(drive: Drive) -> str:
    with pytest.raises(DataError) as caught:
        estimate_trajectory(drive, "s")
    return str(caught.value)


def test_a_scan_of_the_ego_vehicle_alone() -> None:
    drive = Drive(TRUTH[:3])
    drive.clouds["1.bin"] = np.ones((500, 3), np.float32)
    assert complaint(drive) == (
        "scene s, scan 1.bin: 0 points between 2.5 and 100 m, a pose needs 100; take the scan out of the sequence"
    )


def test_times_that_do_not_rise_are_no_fault_of_odometry() -> None:
    said = complaint(Drive(TRUTH[:2], interval_us=0))
    assert said == "scene s, scan 1.bin: is at 0 us, not later than 0 us before it; mend its time"


def test_a_jump_names_the_scan() -> None:
    """The true motion, at times a hundred times too close: a metre in a millisecond."""
    said = complaint(Drive(TRUTH[:4], interval_us=1000))
    assert said.startswith("scene s, scan 1.bin: odometry lost its way: 1.") and "from the scan 0.001 s before" in said


def test_a_pose_that_is_not_finite(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lost:
        last_pose = last_delta = np.eye(4)

        def register_frame(self, xyz: np.ndarray, times: np.ndarray) -> None:
            self.last_pose = self.last_pose * np.nan

    monkeypatch.setattr(odometry, "_odometry", Lost)
    assert complaint(drive) == "scene s, scan 0.bin: odometry found no finite pose; give recorded poses"


@pytest.mark.real
def test_real_drive_against_its_recorded_poses(real_data: Path) -> None:
    root = recording(real_data, "pandaset")
    recorded = np.array([frame.global_from_lidar for frame in open_dataset(FolderConfig(), root).frames("002")])
    found = estimate_trajectory(open_dataset(FolderConfig(poses="estimated"), root), "002").global_from_lidar
    apart = (np.linalg.inv(recorded[0]) @ recorded)[:, :3, 3] - found[:, :3, 3]
    assert np.linalg.norm(apart, axis=1).max() < 0.25
