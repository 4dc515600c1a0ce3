import numpy as np
import pytest

from lima_core.viz.projection import DIM, dimmed, front_camera, points_on_image, smaller


def test_a_point_lands_where_its_pixel_is_after_shrinking() -> None:
    image = np.zeros((40, 80, 3), np.uint8)
    picture = np.asarray(
        points_on_image(image, np.array([[40.5, 20.5]]), np.array([[255, 0, 0]], np.uint8), np.ones(1), 40, 0)
    )
    assert picture.shape == (20, 40, 3)
    assert np.argwhere(picture[..., 0]).tolist() == [[10, 20]]


def test_the_nearer_point_covers_the_farther() -> None:
    image, at = np.zeros((9, 9, 3), np.uint8), np.array([[4.0, 4.0], [4.0, 4.0]])
    rgb = np.array([[255, 0, 0], [0, 255, 0]], np.uint8)
    for depth_m, wanted in (([5.0, 9.0], rgb[0]), ([9.0, 5.0], rgb[1])):
        picture = points_on_image(image, at, rgb, np.array(depth_m), 9, 0)
        assert picture.getpixel((4, 4)) == tuple(wanted)


def test_an_image_is_never_enlarged() -> None:
    assert smaller(np.zeros((10, 20, 3), np.uint8), 500).size == (20, 10)


def test_dimmed_grey_only_gets_darker() -> None:
    grey = np.full((2, 2, 3), 200, np.uint8)
    assert np.abs(dimmed(grey).astype(float) - 200 * DIM).max() <= 1


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_BACK"), 1),
        (("front_left_camera", "back_camera", "front_camera"), 2),
        (("left", "right"), 0),
    ],
)
def test_front_camera(names: tuple[str, ...], wanted: int) -> None:
    assert front_camera(names) == wanted
