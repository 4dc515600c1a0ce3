import numpy as np
import pytest

from lima_core.viz.bev import View, draw_bev, fit_view

LIDAR_AXES = {(1.0, 0.0): "x ahead", (0.0, 1.0): "y ahead (nuScenes)"}


@pytest.mark.parametrize("forward", LIDAR_AXES, ids=LIDAR_AXES.get)
def test_ahead_is_up_and_left_is_left(forward: tuple[float, float]) -> None:
    view = View(radius_m=10.0, size_px=101, forward=forward)
    ahead = np.array([*forward, 0.0])
    left = np.array([-forward[1], forward[0], 0.0])
    uv = view.uv_px(np.stack([10 * ahead, 5 * left, np.zeros(3)]))
    np.testing.assert_allclose(uv, [[50, 0], [25, 50], [50, 50]], atol=1e-9)


def test_points_are_drawn_and_the_higher_one_is_on_top() -> None:
    view = View(radius_m=10.0, size_px=101)
    xyz = np.array([[6.0, 0.0, 1.0], [6.0, 0.0, 3.0], [6.0, 0.0, 2.0]])
    rgb = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    picture = draw_bev(xyz, rgb, view, 0)
    assert picture.size == (101, 101)
    assert picture.getpixel((50, 20)) == (0, 255, 0)


def test_view_fits_the_scan_within_limits() -> None:
    near, far = np.full((50, 3), 3.0), np.full((50, 3), 400.0)
    assert fit_view(near, 100).radius_m == 20
    assert fit_view(far, 100).radius_m == 60
    assert fit_view(np.full((50, 3), 33.0), 100).radius_m == 40
    assert fit_view(np.zeros((0, 3)), 100).radius_m == 20


def test_caption_says_the_width() -> None:
    words = View(radius_m=30.0, size_px=10).words
    assert "60 m wide" in words and "x axis points up" in words
    assert "front camera points up" in View(30.0, 10, (0.0, 1.0)).words
