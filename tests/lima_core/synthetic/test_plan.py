from itertools import pairwise

import numpy as np
import shapely
from shapely.geometry import box as rectangle

from lima_core.synthetic.plan import border, inside, make_plan, segments
from lima_core.synthetic.terrain import make_hills


def test_roads_and_blocks_cover_the_town_once() -> None:
    plan = make_plan(5, 4)
    width, height = plan.size_m
    roads = shapely.union_all([
        rectangle(0, r.centre_m - r.half_m, width, r.centre_m + r.half_m) if r.axis == "x"
        else rectangle(r.centre_m - r.half_m, 0, r.centre_m + r.half_m, height)
        for r in plan.roads
    ])  # fmt: skip
    blocks = [rectangle(*block.rect) for block in plan.blocks]
    assert abs(roads.area + sum(b.area for b in blocks) - width * height) < 1e-6 * width * height
    assert shapely.union_all([roads, *blocks]).area > (1 - 1e-9) * width * height


def test_stretches_end_at_crossings() -> None:
    plan = make_plan(5, 4)
    road = plan.roads[0]
    stretches = segments(plan, road)
    gaps = [b[0] - a[1] for a, b in pairwise(stretches)]
    crossing = sorted((r for r in plan.roads if r.axis != road.axis), key=lambda r: r.centre_m)
    np.testing.assert_allclose(gaps, [2 * r.half_m for r in crossing])


def test_border_and_inside_make_the_rectangle() -> None:
    rect = (1.0, 2.0, 11.0, 8.0)
    parts = [rectangle(*part) for part in (*border(rect, 1.5), inside(rect, 1.5))]
    assert abs(sum(part.area for part in parts) - 60) < 1e-9
    assert abs(shapely.union_all(parts).area - 60) < 1e-9


def test_global_frame_is_a_turn_that_keeps_the_town_positive() -> None:
    for seed in range(5):
        plan = make_plan(seed, 3)
        turn = plan.global_from_plan
        corners = np.array([[0, 0, 0, 1], [plan.size_m[0], 0, 0, 1], [0, plan.size_m[1], 0, 1], [*plan.size_m, 0, 1]])
        assert (corners @ turn.T)[:, :2].min() > 0
        np.testing.assert_allclose(turn[:3, :3] @ turn[:3, :3].T, np.eye(3), atol=1e-12)


def test_slope_is_the_derivative_of_height_and_gentle() -> None:
    hills = make_hills(3)
    xy, step = np.array([123.0, 45.0]), 1e-4
    numeric = [(hills.height(*(xy + d)) - hills.height(*(xy - d))) / (2 * step) for d in step * np.eye(2)]
    np.testing.assert_allclose(hills.slope(*xy), numeric, atol=1e-7)
    grid = np.stack(np.meshgrid(np.arange(0, 400, 7.0), np.arange(0, 400, 7.0)), -1).reshape(-1, 2)
    assert max(np.linalg.norm(hills.slope(*p)) for p in grid) < 0.04
