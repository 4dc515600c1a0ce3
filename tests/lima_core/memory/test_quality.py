"""Coverage, depth and purity against counting by hand."""

import numpy as np

from lima_core.memory.quality import PointTruth, Quality
from lima_core.types import IGNORE
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
