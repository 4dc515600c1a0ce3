"""LiDAR odometry with KISS-ICP (Vizzo et al. 2023): a trajectory from the scans alone, where no poses were recorded.

Every scan of a sequence is used, key frame or not: at 10 Hz the next scan overlaps well. At 2 Hz and driving speed it
does not; odometry then stands still or slips without a word, and only the pose residual says so. Points carry no time
of their own in these formats, so scans are not deskewed. Poses start at the identity and drift: neighbouring frames
fit well, which is what a memory of some seconds needs; there is no loop closure.

Measured against recorded poses: on 30 scans of a slow drive (PandaSet) at most 12 cm apart, 8 cm at the end after 8.7
m, pose residual 3.0 against 2.7 cm; on 15 scans of KITTI, whose poses are another ICP's, at most 33 cm and 28 cm after
3.3 m, 4.5 against 3.1 cm. On a synthetic street that pulled away from rest it fell 1.4 m behind in 4 m: the rings of a
road look the same from everywhere. Read the residual.

One thread: with more, sums come in another order and poses differ in their last bits (5e-15 measured). KISS-ICP takes
its number of threads once a process, at the first use. 0.06 to 0.16 s for a scan of 105 to 120 k points on one core.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from lima_core.datasets.adapter import ScanSource
from lima_core.errors import DataError
from lima_core.geometry import se3
from lima_core.poses import MAX_RANGE_M, MIN_RANGE_M
from lima_core.poses.trajectory import Trajectory
from lima_core.types import Frame

if TYPE_CHECKING:
    from kiss_icp.kiss_icp import KissICP

MAX_SPEED_M_S = 100.0
"""A larger step is no motion of a vehicle but odometry that lost its way (10 m between scans at 10 Hz)."""

MIN_POINTS = 100
"""Fewer points in range fix no pose."""

WARM_UP_SCANS = 5
LINE_EVERY_S = 10.0


def estimate_trajectory(dataset: ScanSource, scene: str) -> Trajectory:
    """The LiDAR's motion through a scene, in the frame of its first scan.

    Raises:
        DataError: a scan that is not later than the one before, cannot be read or has too few points, or odometry that
            lost its way; names the scan.
    """
    scans = dataset.scans(scene)
    _check_times(scans)
    poses: list[np.ndarray] = []
    odometry, first_motion = _odometry(), _first_motion(dataset, scans)
    for scan in _told(scans, scene):
        odometry.register_frame(_in_range(dataset, scan), np.zeros(0))
        if not poses:
            odometry.last_delta = first_motion
        poses.append(odometry.last_pose.copy())
        if not se3.is_rigid(poses[-1]):
            raise DataError("odometry found no finite pose", where=_place(scan), remedy="give recorded poses")
        if len(poses) > 1:
            _check_step(scans[len(poses) - 2], scan, *poses[-2:])
    return Trajectory(np.array([scan.timestamp_us for scan in scans], dtype=np.int64), np.array(poses))


def _first_motion(dataset: ScanSource, scans: Sequence[Frame]) -> np.ndarray:
    """(4, 4) first_from_second of the LiDAR, from a few scans gone through backwards.

    Odometry takes its first step from rest and comes up to speed over some scans; a drive that starts at 1 m a scan
    lost 80 cm in that step on a synthetic street, 1 cm with this.
    """
    odometry = _odometry()
    for scan in scans[WARM_UP_SCANS::-1]:
        odometry.register_frame(_in_range(dataset, scan), np.zeros(0))
    return se3.invert(odometry.last_delta)


def _odometry() -> "KissICP":
    """The authors' values; every section is given, because one that is not would be read from the environment."""
    from kiss_icp.config import KISSConfig  # a third of a second that only estimated poses need pay
    from kiss_icp.config.config import AdaptiveThresholdConfig, DataConfig, MappingConfig, RegistrationConfig
    from kiss_icp.kiss_icp import KissICP

    config = KISSConfig(
        out_dir="",
        data=DataConfig(min_range=MIN_RANGE_M, max_range=MAX_RANGE_M, deskew=False),
        registration=RegistrationConfig(max_num_threads=1),
        mapping=MappingConfig(voxel_size=MAX_RANGE_M / 100),
        adaptive_threshold=AdaptiveThresholdConfig(),
    )
    return KissICP(config)


def _in_range(dataset: ScanSource, scan: Frame) -> np.ndarray:
    """(N, 3) float64 points that odometry will use."""
    xyz = dataset.load_points(scan)[:, :3].astype(np.float64)
    range_m = np.linalg.norm(xyz, axis=1)
    used = xyz[(range_m > MIN_RANGE_M) & (range_m < MAX_RANGE_M)]
    if len(used) < MIN_POINTS:
        what = f"{len(used)} points between {MIN_RANGE_M:g} and {MAX_RANGE_M:g} m, a pose needs {MIN_POINTS}"
        raise DataError(what, where=_place(scan), remedy="take the scan out of the sequence")
    return used


def _check_times(scans: Sequence[Frame]) -> None:
    """Stage index checks those of key frames; an hour of odometry must not end at a scan between them."""
    for before, scan in pairwise(scans):
        if scan.timestamp_us <= before.timestamp_us:
            what = f"is at {scan.timestamp_us} us, not later than {before.timestamp_us} us before it"
            raise DataError(what, where=_place(scan), remedy="mend its time")


def _check_step(before: Frame, scan: Frame, global_from_before: np.ndarray, global_from_scan: np.ndarray) -> None:
    step_m = float(np.linalg.norm(global_from_scan[:3, 3] - global_from_before[:3, 3]))
    seconds = (scan.timestamp_us - before.timestamp_us) / 1e6
    if step_m > MAX_SPEED_M_S * seconds:
        what = f"odometry lost its way: {step_m:.2f} m from the scan {seconds:.3f} s before"
        raise DataError(what, where=_place(scan), remedy="look for a gap in the recording, or give recorded poses")


def _place(scan: Frame) -> str:
    return f"scene {scan.scene}, scan {scan.points}"


def _told(scans: Sequence[Frame], scene: str) -> Iterator[Frame]:
    """The scans; a greppable line on stderr every ten seconds."""
    started = last = time.monotonic()
    for done, scan in enumerate(scans):
        now = time.monotonic()
        if done and now - last > LINE_EVERY_S:
            left = (now - started) / done * (len(scans) - done)
            line = f"poses of {scene} {done}/{len(scans)} scans elapsed={now - started:.1f}s eta={left:.0f}s"
            print(line, file=sys.stderr, flush=True)
            last = now
        yield scan
