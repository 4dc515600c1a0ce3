import numpy as np
import pytest
import trimesh

from lima_core.synthetic.mesh import Mesh, stood
from lima_core.synthetic.shapes import Look, box, cylinder, frustum, leaves


def _solid(mesh: Mesh) -> trimesh.Trimesh:
    vertices = mesh.triangles.reshape(-1, 3).astype(float)
    return trimesh.Trimesh(vertices, np.arange(len(vertices)).reshape(-1, 3))


def test_box_and_frustum_are_closed_and_face_outwards() -> None:
    assert _solid(box((1, 2, 4, 7), 1.0, 3.0, Look("brick"))).volume == pytest.approx(3 * 5 * 2, rel=1e-6)
    pyramid = frustum((-2, -2, 2, 2), 0.0, (-1, -1, 1, 1), 3.0, Look("brick"))
    assert _solid(pyramid).volume == pytest.approx(3 / 3 * (16 + 4 + np.sqrt(16 * 4)), rel=1e-6)


def test_cylinder_has_its_radii_and_stands_where_it_should() -> None:
    mesh = cylinder((1, 2, 0), (1, 2, 0.5), (0.3, 0.1), Look("metal"), sides=12, cap=Look("rubber"))
    points = mesh.triangles.reshape(-1, 3)
    radius = np.hypot(points[:, 0] - 1, points[:, 1] - 2)
    assert np.isfinite(points).all()
    np.testing.assert_allclose(radius[points[:, 2] < 0.01].max(), 0.3, atol=1e-6)
    np.testing.assert_allclose(radius[points[:, 2] > 0.49].max(), 0.1, atol=1e-6)


def test_texture_positions_of_a_wall_are_its_metres() -> None:
    wall = box((0, 0, 8, 4), 0.0, 4.0, Look("brick"))
    assert wall.uv[:2, :, 0].max() == pytest.approx(2.0)
    assert wall.uv[:2, :, 1].max() == pytest.approx(1.0)


def test_leaves_stay_near_their_crown() -> None:
    mesh = leaves((0, 0, 5), (2, 2, 1), 0.5, 200, Look("foliage"), np.random.default_rng(0))
    points = mesh.triangles.reshape(-1, 3)
    assert len(mesh) == 400
    assert np.abs(points - [0, 0, 5]).max() < 2.1 * 1.05 + 0.6


def test_stood_turns_left_for_positive_yaw() -> None:
    mesh = stood(box((1, -0.1, 2, 0.1), 0.0, 1.0, Look("brick")), (10, 0, 5), np.pi / 2)
    low, high = mesh.triangles.reshape(-1, 3).min(0), mesh.triangles.reshape(-1, 3).max(0)
    np.testing.assert_allclose([*low, *high], [9.9, 1, 5, 10.1, 2, 6], atol=1e-5)
