import numpy as np
import pytest

from lima_core.synthetic.caster import build_caster
from lima_core.synthetic.config import LidarConfig
from lima_core.synthetic.lidar import beam_rays, scan
from lima_core.synthetic.mesh import labelled, merge
from lima_core.synthetic.shapes import Look, quads
from lima_core.synthetic.world import Stage

CLEAN = LidarConfig(num_azimuths=180, range_noise_m=0.0, dropout=0.0)


def _floor_and_wall() -> tuple:
    floor = quads(
        np.array([[[-99, -99, 0], [99, -99, 0], [99, 99, 0], [-99, 99, 0]]], float), np.zeros((1, 4, 2)), Look("soil")
    )
    wall = quads(
        np.array([[[20, -99, 0], [20, 99, 0], [20, 99, 9], [20, -99, 9]]], float), np.zeros((1, 4, 2)), Look("brick")
    )
    mesh = merge([labelled(floor, 27), labelled(wall, 28)])
    return mesh, [build_caster(mesh.triangles, np.arange(len(mesh)))]


def _pose() -> np.ndarray:
    pose = np.eye(4)
    pose[2, 3] = 1.8
    return pose


def test_beams_have_the_elevations_of_the_sensor() -> None:
    rays, beam = beam_rays(LidarConfig())
    elevation = np.rad2deg(np.arcsin(rays[:, 2]))
    np.testing.assert_allclose(elevation[beam == 0], -30.67, atol=1e-3)
    np.testing.assert_allclose(elevation[beam == 31], 10.67, atol=1e-3)
    assert len(rays) == 32 * 1085


def test_points_lie_on_floor_and_wall_with_their_classes(stage: Stage) -> None:
    mesh, casters = _floor_and_wall()
    points, raw, _ = scan(mesh, casters, stage.atlas, _pose(), CLEAN, np.random.default_rng(0))
    assert set(raw.tolist()) == {27, 28}
    np.testing.assert_allclose(points[raw == 27, 2], -1.8, atol=2e-3)
    np.testing.assert_allclose(points[raw == 28, 0], 20.0, atol=2e-3)
    assert np.linalg.norm(points[:, :3], axis=1).max() < CLEAN.max_range_m


def test_noise_is_along_the_beam_and_of_the_stated_size(stage: Stage) -> None:
    mesh, casters = _floor_and_wall()
    noisy = CLEAN.model_copy(update={"range_noise_m": 0.05})
    clean, _, _ = scan(mesh, casters, stage.atlas, _pose(), CLEAN, np.random.default_rng(0))
    points, _, _ = scan(mesh, casters, stage.atlas, _pose(), noisy, np.random.default_rng(0))
    shift = np.linalg.norm(points[:, :3], axis=1) - np.linalg.norm(clean[:, :3], axis=1)
    assert shift.std() == pytest.approx(0.05, rel=0.1)
    across = np.cross(points[:, :3], clean[:, :3]) / np.linalg.norm(clean[:, :3], axis=1, keepdims=True)
    assert np.abs(across).max() < 1e-3


def test_dropout_loses_the_stated_share_and_intensity_falls_with_range(stage: Stage) -> None:
    mesh, casters = _floor_and_wall()
    lossy = CLEAN.model_copy(update={"dropout": 0.3})
    clean, raw, _ = scan(mesh, casters, stage.atlas, _pose(), CLEAN, np.random.default_rng(0))
    points, _, _ = scan(mesh, casters, stage.atlas, _pose(), lossy, np.random.default_rng(0))
    assert 0.25 < 1 - len(points) / len(clean) < 0.6
    assert ((clean[:, 3] >= 0) & (clean[:, 3] <= 255)).all()
    wall = clean[raw == 28]
    distance = np.linalg.norm(wall[:, :3], axis=1)
    assert wall[distance < 25, 3].mean() > 1.5 * wall[distance > 50, 3].mean()
