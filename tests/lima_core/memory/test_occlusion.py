"""The occlusion test against rays through a world of boxes, and its parts against loops."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from lima_core.geometry import se3
from lima_core.geometry.camera import Projection, project
from lima_core.memory.occlusion import (
    WIDEST_GAP_DEG,
    OcclusionConfig,
    cover_columns,
    cover_rows,
    footprints_of,
    visible_unless_hidden,
)
from lima_core.types import Camera, Frame
from tests.lima_core.memory.toy_lidar import GROUND, LIDAR_HEIGHT_M, Scan, World, beams, scan

CAR = ((7.0, -1.0, 0.0), (11.0, 1.0, 1.5))
WALL = ((25.0, -30.0, 0.0), (26.0, 30.0, 8.0))
STREET = World((CAR, WALL))
CONFIG = OcclusionConfig()
UNEVEN = np.concatenate(
    [np.arange(-25, -8, 3.0), np.arange(-8, -4, 1.0), np.arange(-4, 3, 0.33), np.arange(3, 15, 2.0)]
)


def frame_with(*camera_positions: tuple[float, float, float], pitch: float = 0.0, scale: int = 1) -> Frame:
    """A LiDAR over the origin, and cameras beside it that look along x."""
    c, s = np.cos(pitch), np.sin(pitch)
    lidar_from_optical = np.array([[0, -s, c], [-1, 0, 0], [0, -c, -s]])
    intrinsics = np.array([[600.0, 0, 400], [0, 600, 225], [0, 0, 1]]) * [[scale], [scale], [1]]
    global_from_lidar = se3.from_rotation_translation(np.eye(3), np.array([0, 0, LIDAR_HEIGHT_M]))
    cameras = tuple(
        Camera(
            name=str(number),
            image="",
            width_px=800 * scale,
            height_px=450 * scale,
            timestamp_us=0,
            intrinsics=intrinsics,
            global_from_camera=se3.from_rotation_translation(lidar_from_optical, np.array(position)),
        )
        for number, position in enumerate(camera_positions)
    )
    return Frame("toy", 0, "0", "train", 0, "", None, global_from_lidar, cameras)


@dataclass(frozen=True)
class Judged:
    """Points inside the image, split by what a ray from the camera says; in between is not judged."""

    hidden: np.ndarray
    seen: np.ndarray
    kept: np.ndarray


def judge(world: World, scanned: Scan, camera: tuple[float, float, float], config: OcclusionConfig = CONFIG) -> Judged:
    frame = frame_with(camera)
    projection = project(frame, scanned.xyz)
    ray = scanned.xyz_world - np.array(camera)
    first, _ = world.first_hit(np.array(camera), ray)
    depth_m, inside = projection.depth_m[0], projection.visible[0]
    surely = first * depth_m < depth_m * (1 - config.tolerance_share) - config.tolerance_m
    kept = visible_unless_hidden(frame, projection, scanned.xyz, config).visible[0]
    assert not (kept & ~inside).any()
    return Judged(inside & surely, inside & (first > 1 - 1e-3), kept)


CAMERAS = {"ahead": (1.5, 0.0, 1.5), "beside": (0.5, 1.5, 1.5), "ahead and beside": (1.5, -0.6, 1.4)}
BEAMS = {"32": beams(), "64": beams(0.4, -24.8, 2.0), "uneven": UNEVEN}


@pytest.mark.parametrize("elevation_deg", BEAMS.values(), ids=BEAMS)
@pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)
def test_hidden_points_are_found_and_seen_ones_kept(
    camera: tuple[float, float, float], elevation_deg: np.ndarray
) -> None:
    scanned = scan(STREET, elevation_deg)
    judged = judge(STREET, scanned, camera)
    assert judged.hidden.sum() > 20
    assert judged.kept[judged.hidden].mean() < 0.1
    front = scanned.xyz_world[:, 0] < CAR[0][0] + 1e-3
    for part, most in ((scanned.hit == GROUND, 0.04), (scanned.hit == 1, 0.05), ((scanned.hit == 0) & front, 0.02)):
        assert (judged.seen & part).sum() > 30
        assert 1 - judged.kept[judged.seen & part].mean() < most


@pytest.mark.parametrize("spacing_deg", [0.2, 0.4, 1.0, 4 / 3, 2.0])
@pytest.mark.parametrize(("height_m", "most"), [(1.5, 0.05), (1.65, 0.02), (1.8, 0.0), (2.3, 0.0)])
def test_grazing_ground_does_not_hide_itself(height_m: float, most: float, spacing_deg: float) -> None:
    judged = judge(World(), scan(World(), beams(spacing_deg, -30.03)), (1.0, 0.2, height_m))
    assert judged.seen.sum() > 500 and not judged.hidden.any()
    assert 1 - judged.kept[judged.seen].mean() <= most


def test_a_camera_far_below_the_lidar_needs_smaller_footprints() -> None:
    """Ground rings lie closer together in its image, by the ratio of the heights, than in the scan."""
    scanned = scan(World(), beams())
    for vertical, least, most in ((0.7, 0.2, 1.0), (0.4, 0.0, 0.01)):
        judged = judge(World(), scanned, (1.0, 0.2, 1.0), OcclusionConfig(vertical=vertical))
        assert least <= 1 - judged.kept[judged.seen].mean() <= most


def test_a_ball_loses_its_far_side_only() -> None:
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(20_000, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    xyz = np.array([12.0, 0, 0]) + 2 * normal
    frame = frame_with((0.0, 0.0, LIDAR_HEIGHT_M))
    projection = project(frame, xyz)
    kept = visible_unless_hidden(frame, projection, xyz, CONFIG).visible[0]
    facing = -(xyz * normal).sum(axis=1) / np.linalg.norm(xyz, axis=1)
    assert projection.visible.all()
    assert kept[facing > 0.3].mean() > 0.99
    assert kept[facing < -0.3].mean() < 0.15


def test_a_plane_that_faces_the_camera_loses_nothing() -> None:
    y, z = (grid.ravel() for grid in np.meshgrid(np.linspace(-4, 4, 200), np.linspace(-1, 2, 40)))
    xyz = np.stack([np.full(y.shape, 10.0), y, z], axis=1)
    frame = frame_with((1.5, 1.0, 1.0))
    projection = project(frame, xyz)
    kept = visible_unless_hidden(frame, projection, xyz, CONFIG).visible
    assert projection.visible.sum() > 5000
    np.testing.assert_array_equal(kept, projection.visible)


def test_only_visible_changes() -> None:
    scanned = scan(STREET, beams())
    frame = frame_with((1.5, 0.0, 1.5))
    projection = project(frame, scanned.xyz)
    before = projection.visible.copy()
    tested = visible_unless_hidden(frame, projection, scanned.xyz, CONFIG)
    np.testing.assert_array_equal(projection.visible, before)
    assert tested.uv_px is projection.uv_px and tested.depth_m is projection.depth_m
    assert tested.visible.sum() < before.sum()


@pytest.mark.parametrize("num_points", [0, 1])
def test_hardly_a_point_hides_nothing(num_points: int) -> None:
    xyz = np.full((num_points, 3), [10.0, 0.1, 0.1], dtype=np.float32)
    frame = frame_with((1.5, 0.0, 1.5))
    projection = project(frame, xyz)
    assert visible_unless_hidden(frame, projection, xyz, CONFIG).visible.sum() == num_points


def test_cameras_without_an_image_or_a_point_see_nothing_and_disturb_nobody() -> None:
    scanned = scan(STREET, beams())
    both = frame_with((1.5, 0.0, 1.5), (200.0, 0.0, 1.5))
    with_none = replace(both, cameras=(None, *both.cameras))
    alone = frame_with((1.5, 0.0, 1.5))
    found = visible_unless_hidden(with_none, project(with_none, scanned.xyz), scanned.xyz, CONFIG).visible
    expected = visible_unless_hidden(alone, project(alone, scanned.xyz), scanned.xyz, CONFIG).visible
    assert not found[0].any() and not found[2].any()
    np.testing.assert_array_equal(found[1], expected[0])


def test_points_outside_the_distortion_model_hide_nothing() -> None:
    scanned = scan(STREET, beams())
    frame = frame_with((1.5, 0.0, 1.5))
    projection = project(frame, scanned.xyz)
    car = (scanned.hit == 0)[None, :]
    without_car = Projection(
        uv_px=np.where(car[..., None], np.nan, projection.uv_px),
        depth_m=projection.depth_m,
        visible=projection.visible & ~car,
    )
    with_car, without = (
        visible_unless_hidden(frame, which, scanned.xyz, CONFIG).visible for which in (projection, without_car)
    )
    assert not without[car].any()
    assert (without & ~with_car).sum() > 20
    behind_car = (scanned.hit != 0) & (scanned.xyz_world[:, 0] > CAR[1][0])
    assert without[0, behind_car & projection.visible[0]].mean() > 0.98


def test_the_answer_does_not_depend_on_the_resolution_of_the_image() -> None:
    scanned = scan(STREET, beams())
    coarse, fine = (frame_with((1.5, 0.0, 1.5), scale=scale) for scale in (1, 4))
    kept, inside = [], []
    for frame in (coarse, fine):
        projection = project(frame, scanned.xyz)
        inside.append(projection.visible[0])
        kept.append(visible_unless_hidden(frame, projection, scanned.xyz, CONFIG).visible[0])
    both = inside[0] & inside[1]
    assert both.sum() > 1000 and (both & ~kept[0]).sum() > 20
    np.testing.assert_array_equal(kept[0][both], kept[1][both])


@pytest.mark.parametrize("seed", range(4))
def test_rows_are_covered_as_a_loop_covers_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape, num_points = (9, 5), (0, 1, 12, 60)[seed]
    row, column = rng.integers(0, shape[0], num_points), rng.integers(0, shape[1], num_points)
    up, down = rng.integers(0, 4, num_points), rng.integers(0, 12, num_points)
    depth_m = rng.choice(np.arange(1.0, 9.0), num_points)
    found, expected = np.full(shape, np.inf), np.full(shape, np.inf)
    cover_rows(found, row, column, depth_m, up, down)
    for r, c, depth, above, below in zip(row, column, depth_m, up, down, strict=True):
        for at in range(max(r - above, 0), min(r + below, shape[0] - 1) + 1):
            expected[at, c] = min(expected[at, c], depth)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("most", [0, 1, 3, 20])
def test_columns_are_covered_as_a_loop_covers_them(most: int) -> None:
    rng = np.random.default_rng(most)
    before = np.where(rng.random((6, 9)) < 0.3, rng.uniform(1, 9, (6, 9)), np.inf)
    reach = rng.integers(0, most + 1, 9)
    expected = before.copy()
    for row in range(6):
        for column in range(9):
            for at in range(max(column - reach[column], 0), min(column + reach[column], 8) + 1):
                expected[row, at] = min(expected[row, at], before[row, column])
    found = before.copy()
    cover_columns(found, reach)
    np.testing.assert_array_equal(found, expected)


OFF_BINS = np.r_[-25.0251:-8:2.93, -7.97:-4:0.97, -3.93:3:0.33, 3.35:15:1.93]


@pytest.mark.parametrize("table", [beams(), beams(0.4213, -24.83, 2.0), OFF_BINS], ids=["32", "64", "uneven"])
def test_footprints_reach_for_the_next_beam_of_any_table(table: np.ndarray) -> None:
    """A wall all around, so that every beam returns."""
    azimuth, elevation = (grid.ravel() for grid in np.meshgrid(np.radians(np.arange(-180, 180, 0.35)), table))
    level = np.radians(elevation)
    xyz = 20 * np.stack([np.cos(level) * np.cos(azimuth), np.cos(level) * np.sin(azimuth), np.sin(level)], axis=1)
    found = footprints_of(xyz, OcclusionConfig(vertical=0.5, horizontal=2.0))
    for own, above, below in zip(table, [*table[1:], None], [None, *table[:-1]], strict=True):
        for other, reach in ((above, found.up), (below, found.down)):
            gap_deg = WIDEST_GAP_DEG if other is None else min(abs(other - own), WIDEST_GAP_DEG)
            np.testing.assert_allclose(np.degrees(reach[elevation == own]), 0.5 * gap_deg, atol=0.5 * 0.1 + 1e-6)
    assert np.degrees(found.side) == pytest.approx(2 * 0.35, rel=1e-3)


@pytest.mark.parametrize("second_m", [17.0, 0.0], ids=["second return", "missing points at the origin"])
def test_points_of_one_firing_do_not_narrow_the_footprint(second_m: float) -> None:
    azimuth, elevation = (grid.ravel() for grid in np.meshgrid(np.radians(np.arange(-180, 180, 0.35)), beams()))
    level = np.radians(elevation)
    direction = np.stack([np.cos(level) * np.cos(azimuth), np.cos(level) * np.sin(azimuth), np.sin(level)], axis=1)
    xyz = np.concatenate([8.0 * direction, second_m * direction, second_m * direction]).astype(np.float32)
    assert np.degrees(footprints_of(xyz, OcclusionConfig(horizontal=2.0)).side) == pytest.approx(2 * 0.35, rel=1e-3)


def test_gaps_equal_a_loop_over_columns() -> None:
    rng = np.random.default_rng(0)
    azimuth, elevation = rng.uniform(-10, 10, 300), rng.uniform(-5, 5, 300)
    a, e = np.radians(azimuth), np.radians(elevation)
    xyz = 15 * np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=1)
    found = footprints_of(xyz, OcclusionConfig(vertical=1.0))
    column, row = np.floor((azimuth + 180) / 0.7), np.floor((elevation - elevation.min()) / 0.1 + 1e-9)
    for point in range(300):
        others = row[column == column[point]]
        for reach, steps in ((found.up, others - row[point]), (found.down, row[point] - others)):
            gap_deg = min(steps[steps > 0].min(initial=1000) * 0.1, WIDEST_GAP_DEG)
            assert np.degrees(reach[point]) == pytest.approx(gap_deg, abs=1e-9)
