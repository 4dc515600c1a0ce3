"""Coverage, depth and purity against counting by hand."""

import json

import numpy as np
import pytest

from lima_core.memory.quality import RANGES_M, PointTruth, Quality
from lima_core.stores.memory_bank import FrameBank
from lima_core.types import IGNORE, NO_SURFACE
from tests.lima_core.memory.toy_drive import toy_drive


def counted(frames: int, seed: int = 0) -> tuple[Quality, dict[str, float]]:
    drive, rng = toy_drive(), np.random.default_rng(seed)
    bank = drive.bank(3, frames, "merged")
    point_class = rng.choice(np.array([0, 1, IGNORE], dtype=np.uint8), len(bank.point_target))
    truth = rng.choice(np.array([0, 1, 2, IGNORE], dtype=np.uint8), len(bank.age))
    quality = Quality.empty(frames)
    quality.count(bank, PointTruth(drive.points[3], point_class), {"points": truth})
    judged = pure = 0
    for reference, target in enumerate(bank.target_of_reference):
        for cls in point_class[bank.point_target == target]:
            if cls != IGNORE and truth[reference] != IGNORE:
                judged, pure = judged + 1, pure + (cls == truth[reference])
    taught = bank.point_target >= 0
    depth = len(bank.age) / len(bank.num_references)
    return quality, {"coverage": taught.mean(), "depth": depth, "purity_points": pure / judged, "judged": judged}


def test_counts_equal_a_loop_over_pairs() -> None:
    quality, expected = counted(4)
    row = quality.by_window()[-1]
    assert row["frames"] == 4 and row["purity_pixels"] is None
    for name in ("coverage", "depth", "purity_points"):
        np.testing.assert_allclose(row[name], expected[name], err_msg=name)
    assert quality.groups["all"].judged["points"].sum() == expected["judged"]


def test_shorter_windows_are_read_off_the_same_counts() -> None:
    long, short = Quality.empty(4), Quality.empty(2)
    drive = toy_drive()
    for index in range(4):
        long.count(drive.bank(index, 4, "merged"), PointTruth(drive.points[index]), {})
        short.count(drive.bank(index, 2, "merged"), PointTruth(drive.points[index]), {})
    assert long.by_window()[1] == short.by_window()[1]
    assert long.coverage(4) > long.coverage(1)


def test_sums_and_json_round_trip() -> None:
    quality, _ = counted(3)
    twice = Quality.total([quality, Quality.from_json(quality.to_json())], 3)
    assert twice.by_window() == quality.by_window()
    assert twice.groups["all"].num_points == 2 * quality.groups["all"].num_points


def grouped(seed: int, moving: bool = True) -> tuple[Quality, FrameBank, PointTruth, dict[str, np.ndarray]]:
    """One frame whose points are spread over all ranges."""
    drive, rng = toy_drive(), np.random.default_rng(seed)
    bank = drive.bank(3, 4, "merged")
    classes = np.array([0, 1, IGNORE], dtype=np.uint8)
    num_points = len(bank.point_target)
    xyz = drive.points[3] * rng.choice([0.5, 2.0, 5.0], (num_points, 1))
    points = PointTruth(xyz, rng.choice(classes, num_points), rng.random(num_points) < 0.2 if moving else None)
    pixels = rng.choice(np.array([0, 1, NO_SURFACE, IGNORE], dtype=np.uint8), len(bank.age))
    truths = {"points": rng.choice(classes, len(bank.age)), "pixels": pixels}
    quality = Quality.empty(4)
    quality.count(bank, points, truths)
    return quality, bank, points, truths


def members(points: PointTruth) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {"all": [], "static": [], "moving": [], **{name: [] for name in RANGES_M}}
    for point, xyz in enumerate(points.xyz_lidar.astype(float)):
        range_m = float((xyz**2).sum() ** 0.5)
        groups["all"].append(point)
        if points.moving is not None:
            groups["moving" if points.moving[point] else "static"].append(point)
        groups[next(name for name, (low, high) in RANGES_M.items() if low <= range_m < high)].append(point)
    return {name: found for name, found in groups.items() if found}


@pytest.mark.parametrize("moving", [True, False])
@pytest.mark.parametrize("frames", [1, 4])
def test_groups_equal_loops_over_their_points_and_references(frames: int, moving: bool) -> None:
    quality, bank, points, truths = grouped(0, moving)
    rows = {row["points"]: row for row in quality.by_group(frames)}
    expected = members(points)
    assert set(rows) == set(expected) and len(expected) >= 4
    assert ({"static", "moving"} <= set(rows)) == moving
    for name, inside in expected.items():
        taught, judged, pure = 0, {"points": 0, "pixels": 0}, {"points": 0, "pixels": 0}
        for point in inside:
            own = np.nonzero((bank.target_of_reference == bank.point_target[point]) & (bank.age < frames))[0]
            taught += len(own) > 0
            for truth, seen in truths.items():
                known = [seen[r] for r in own if seen[r] != IGNORE and points.point_class[point] != IGNORE]
                judged[truth] += len(known)
                pure[truth] += sum(cls == points.point_class[point] for cls in known)
        row = rows[name]
        assert row["share"] == pytest.approx(len(inside) / len(points.xyz_lidar))
        assert row["coverage"] == pytest.approx(taught / len(inside))
        for truth in truths:
            assert row[f"purity_{truth}"] == (pytest.approx(pure[truth] / judged[truth]) if judged[truth] else None)


def one_target(seen: int, own: int) -> Quality:
    """Two points, one target, one reference."""
    camera = np.ones(1, dtype=np.uint8)
    at = {name: np.zeros(1, dtype=np.uint16) for name in ("u", "v")}
    bank = FrameBank(np.zeros(2, np.int32), np.ones(1, np.uint16), np.zeros(1, np.uint8), camera, **at)
    quality = Quality.empty(1)
    points = PointTruth(np.ones((2, 3)), np.array([own, IGNORE], dtype=np.uint8))
    quality.count(bank, points, {"pixels": np.array([seen], dtype=np.uint8)})
    return quality


@pytest.mark.parametrize(
    ("seen", "own", "purity"),
    [(3, 3, 1.0), (4, 3, 0.0), (NO_SURFACE, 3, 0.0), (IGNORE, 3, None), (3, IGNORE, None), (IGNORE, IGNORE, None)],
)
def test_the_sky_is_impure_and_what_is_unknown_is_not_judged(seen: int, own: int, purity: float | None) -> None:
    quality = one_target(seen, own)
    assert quality.purity(1, "pixels") == purity
    assert quality.groups["all"].judged["pixels"].sum() == (purity is not None)
    assert quality.purity(1, "points") is None and quality.coverage(1) == 1.0


def test_scenes_with_different_groups_add_up() -> None:
    known, unknown = grouped(1)[0], grouped(2, moving=False)[0]
    for parts in ([known, unknown], [unknown, known]):
        total = Quality.total(parts, 4)
        num_points = {name: counts.num_points for name, counts in total.groups.items()}
        assert num_points["all"] == known.groups["all"].num_points + unknown.groups["all"].num_points
        assert num_points["static"] + num_points["moving"] == known.groups["all"].num_points
        assert sum(num_points[name] for name in RANGES_M) == num_points["all"]
        rows = {row["points"]: row for row in total.by_group(4)}
        assert rows["moving"]["coverage"] == known.coverage(4, "moving")
    assert known.by_group(4) == grouped(1)[0].by_group(4)


def test_groups_survive_json() -> None:
    quality = grouped(3)[0]
    read = Quality.from_json(json.loads(json.dumps(quality.to_json())))
    assert read.by_group(4) == quality.by_group(4) and read.by_window() == quality.by_window()
    assert Quality.total([read, quality], 4).groups["moving"].num_points == 2 * quality.groups["moving"].num_points
    assert Quality.total([], 4).by_group(4) == []
