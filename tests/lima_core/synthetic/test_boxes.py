import numpy as np
from nuscenes.utils.data_classes import Box
from nuscenes.utils.geometry_utils import points_in_box
from pyquaternion import Quaternion

from lima_core.synthetic.boxes import points_inside


def test_points_inside_agrees_with_the_devkit() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        centre, yaw, size = rng.uniform(-5, 5, 3), rng.uniform(-4, 4), rng.uniform(0.5, 8, 3)
        points = rng.uniform(-9, 9, (2000, 3))
        box = Box(centre.tolist(), [size[1], size[0], size[2]], Quaternion(axis=[0, 0, 1], angle=yaw))
        assert points_inside(points, centre, yaw, size) == points_in_box(box, points.T).sum()
