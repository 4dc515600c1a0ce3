"""The free-space gate: what leaves and arrives is forgotten, nothing else; and a scan's view against a loop."""

import numpy as np
import pytest

from lima_core.geometry import se3
from lima_core.memory.free_space import COLUMN_DEG, NEAREST_M, WIDEST_GAP_DEG, FreeSpaceConfig, FreeSpaceGate, ScanView
from tests.lima_core.memory.toy_lidar import GROUND, LIDAR_HEIGHT_M, Scan, World, beams, scan, turn

CAR = ((9.0, 2.0, 0.0), (13.0, 4.0, 1.5))
WALL = ((25.0, -40.0, 0.0), (26.0, 40.0, 8.0))
WITH_CAR, WITHOUT_CAR = World((WALL, CAR)), World((WALL,))
HERE, THERE = ((0.0, 0.0), 0.0), ((4.0, 0.5), 0.1)
BEAMS = {"32": beams(), "64": beams(0.4, -24.8, 2.0)}


def pose(position: tuple[float, float], yaw: float) -> np.ndarray:
    return se3.from_rotation_translation(turn(yaw), np.array([*position, LIDAR_HEIGHT_M]))


def emptied(
    config: FreeSpaceConfig, scans: list[Scan], places: list[tuple[tuple[float, float], float]]
) -> list[np.ndarray]:
    """What the gate empties at each scan, where every point is a voxel of its own: number of scan * 2**20 + row."""
    gate = FreeSpaceGate(config)
    keys = [(number << 20) + np.arange(len(scanned.xyz)) for number, scanned in enumerate(scans)]
    return [
        gate.emptied(scanned.xyz, pose(*place), key) for scanned, place, key in zip(scans, places, keys, strict=True)
    ]


def rows_of(keys: np.ndarray, number: int) -> np.ndarray:
    return keys[keys >> 20 == number] & ((1 << 20) - 1)


@pytest.mark.parametrize("table", BEAMS.values(), ids=BEAMS)
@pytest.mark.parametrize("places", [(HERE, HERE), (HERE, THERE)], ids=["standing", "driving"])
def test_only_the_car_that_left_is_forgotten(table: np.ndarray, places: tuple) -> None:
    scans = [scan(world, table, *place) for world, place in zip((WITH_CAR, WITHOUT_CAR), places, strict=True)]
    first, second = emptied(FreeSpaceConfig(directions="left"), scans, list(places))
    gone = rows_of(second, 0)
    assert len(first) == 0 and len(rows_of(second, 1)) == 0
    assert set(scans[0].hit[gone]) == {1}
    upper = np.nonzero((scans[0].hit == 1) & (scans[0].xyz_world[:, 2] > 0.5) & (scans[0].xyz_world[:, 2] < 1.3))[0]
    inner = np.abs(scans[0].xyz_world[upper, 1] - 3) < 0.7
    assert inner.sum() > 10
    assert np.isin(upper[inner], gone).mean() > 0.9


@pytest.mark.parametrize("places", [(HERE, HERE), (HERE, THERE)], ids=["standing", "driving"])
def test_only_the_place_of_the_car_that_arrived_is_forgotten(places: tuple) -> None:
    scans = [scan(world, beams(), *place) for world, place in zip((WITHOUT_CAR, WITH_CAR), places, strict=True)]
    _, second = emptied(FreeSpaceConfig(directions="arrived"), scans, list(places))
    taken = rows_of(second, 1)
    assert len(rows_of(second, 0)) == 0
    assert set(scans[1].hit[taken]) == {1}
    upper = (scans[1].hit == 1) & (scans[1].xyz_world[:, 2] > 0.5)
    assert np.isin(np.nonzero(upper)[0], taken).mean() > 0.6


def test_a_direction_finds_nothing_of_the_other_and_both_find_either() -> None:
    moved = World((WALL, ((9.0, -6.0, 0.0), (13.0, -4.0, 1.5))))
    scans = [scan(WITH_CAR, beams()), scan(moved, beams())]
    left, arrived, both = (
        emptied(FreeSpaceConfig(directions=directions), scans, [HERE, HERE])[1]
        for directions in ("left", "arrived", "both")
    )
    assert len(rows_of(left, 0)) == len(left) > 20
    assert len(rows_of(arrived, 1)) == len(arrived) > 20
    np.testing.assert_array_equal(both, np.union1d(left, arrived))


@pytest.mark.parametrize("spacing_deg", [0.4, 1.0, 4 / 3])
def test_grazing_ground_and_walls_stay_when_only_the_car_drives(spacing_deg: float) -> None:
    places = [((0.7 * step, 0.1 * step), 0.02 * step) for step in range(5)]
    scans = [scan(WITH_CAR, beams(spacing_deg), *place) for place in places]
    for number, keys in enumerate(emptied(FreeSpaceConfig(), scans, places)):
        for which in (number - 1, number):
            rows = rows_of(keys, which)
            lost = scans[which].hit[rows]
            assert (lost == GROUND).sum() + (lost == 0).sum() <= 1e-3 * len(scans[which].hit)
            assert len(rows) < 5e-3 * len(scans[which].hit)


def test_missing_returns_prove_nothing() -> None:
    """Where the car stood the second scan has no return at all, as of glass, or of open sky behind."""
    before = scan(WITH_CAR, beams())
    rest = before.hit != 1
    empty_there = Scan(before.xyz[rest], before.hit[rest], before.xyz_world[rest])
    _, keys = emptied(FreeSpaceConfig(), [before, empty_there], [HERE, HERE])
    lower = before.xyz_world[:, 2] < 1.2
    assert not lower[rows_of(keys, 0)].any()
    sky = scan(World((CAR,)), beams()), scan(World(), beams())
    _, keys = emptied(FreeSpaceConfig(), list(sky), [HERE, HERE])
    above_horizon = sky[0].xyz[:, 2] > -0.2
    assert not above_horizon[rows_of(keys, 0)].any()


@pytest.mark.parametrize("directions", ["left", "arrived", "both"])
def test_the_first_scan_and_empty_ones_empty_nothing(directions: str) -> None:
    full = scan(WITH_CAR, beams())
    empty = Scan(*(array[:0] for array in (full.xyz, full.hit, full.xyz_world)))
    found = emptied(FreeSpaceConfig(directions=directions), [full, empty, full, empty, empty], [HERE] * 5)
    assert [len(keys) for keys in found] == [0] * 5
    assert all(keys.dtype == np.int64 for keys in found)


def test_two_scans_are_looked_at_whatever_came_before() -> None:
    worlds = [WITHOUT_CAR, WITH_CAR, WITHOUT_CAR, WITH_CAR]
    places = [HERE, THERE, HERE, THERE]
    scans = [scan(world, beams(), *place) for world, place in zip(worlds, places, strict=True)]
    whole = emptied(FreeSpaceConfig(), scans, places)
    for number in range(1, 4):
        pair = emptied(FreeSpaceConfig(), scans[number - 1 : number + 1], places[number - 1 : number + 1])[1]
        expected = pair + ((number - 1) << 20)
        assert len(expected) > 20
        np.testing.assert_array_equal(whole[number], expected)


def test_keys_are_distinct_and_sorted_though_points_share_voxels() -> None:
    before, after = scan(WITH_CAR, beams()), scan(WITHOUT_CAR, beams())
    gate = FreeSpaceGate(FreeSpaceConfig())
    gate.emptied(before.xyz, pose(*HERE), np.arange(len(before.xyz))[::-1] // 7)
    keys = gate.emptied(after.xyz, pose(*HERE), np.full(len(after.xyz), 3))
    assert len(keys) > 2
    np.testing.assert_array_equal(keys, np.unique(keys))


def through_by_loop(by: np.ndarray, places: np.ndarray, config: FreeSpaceConfig) -> np.ndarray:
    """Per place and column the lowest beam not below it and the highest below it, found one by one."""
    num_columns = round(360 / COLUMN_DEG)

    def directions(xyz: np.ndarray) -> tuple[int, float, float]:
        turn_share = np.arctan2(xyz[1], xyz[0]) / (2 * np.pi) + 0.5
        return (
            int(turn_share * num_columns) % num_columns,
            np.degrees(np.arctan2(xyz[2], np.hypot(xyz[0], xyz[1]))),
            float(np.linalg.norm(xyz)),
        )

    returns = [directions(xyz) for xyz in by]
    found = np.zeros(len(places), dtype=bool)
    for number, xyz in enumerate(places):
        column, elevation_deg, range_m = directions(xyz)
        proofs = []
        for side in (-1, 0, 1):
            inside = [r for r in returns if r[0] == (column + side) % num_columns]
            above = min((r for r in inside if r[1] >= elevation_deg), key=lambda r: r[1], default=None)
            below = max((r for r in inside if r[1] < elevation_deg), key=lambda r: r[1], default=None)
            proofs.append(
                above is not None
                and below is not None
                and above[1] - below[1] < WIDEST_GAP_DEG
                and min(above[2], below[2]) > range_m * (1 + config.margin_share) + config.margin_m
            )
        found[number] = range_m > NEAREST_M and all(proofs)
    return found


@pytest.mark.parametrize("centre_deg", [0.0, 90.0, 180.0])
def test_a_view_equals_a_loop_also_where_the_columns_wrap(centre_deg: float) -> None:
    rng = np.random.default_rng(int(centre_deg))

    def points(num_points: int, nearest_m: float, furthest_m: float) -> np.ndarray:
        azimuth = np.radians(centre_deg + rng.uniform(-3, 3, num_points))
        elevation = np.radians(rng.uniform(-4, 4, num_points))
        unit = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
        return np.stack(unit, axis=1) * rng.uniform(nearest_m, furthest_m, (num_points, 1))

    by, places, config = points(150, 5, 40), points(600, 1, 12), FreeSpaceConfig()
    found = ScanView(by).sees_through(places, config)
    np.testing.assert_array_equal(found, through_by_loop(by, places, config))
    assert 0.02 < found.mean() < 0.9


def test_no_beam_above_the_last_or_below_the_first_proves_anything() -> None:
    """The first and the last of all beams in the order of columns have no neighbour beyond."""
    elevation_deg = {-1: np.arange(-1, 3.1, 1), 0: np.arange(-1, 1.1, 1), 1: np.arange(-1, 3.1, 1)}
    middle = (np.array([-1, 0, 1]) + round(360 / COLUMN_DEG) - 1 + 0.5) * 2 * np.pi / round(360 / COLUMN_DEG) - np.pi
    by = np.concatenate(
        [ray(azimuth, np.radians(table), 30.0) for azimuth, table in zip(middle, elevation_deg.values(), strict=True)]
    )
    for table_deg, seen in ((0.5, True), (1.5, False), (2.5, False), (-1.5, False)):
        place = ray(middle[1], np.radians(np.array([table_deg])), 10.0)
        assert ScanView(by).sees_through(place, FreeSpaceConfig()).tolist() == [seen], table_deg


def ray(azimuth: float, elevation: np.ndarray, range_m: float) -> np.ndarray:
    flat = np.cos(elevation)
    return range_m * np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=1)
