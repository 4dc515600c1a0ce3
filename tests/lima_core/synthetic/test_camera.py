import numpy as np
from nuscenes.utils.geometry_utils import view_points

from lima_core.synthetic.camera import pixel_rays, take_picture
from lima_core.synthetic.caster import build_caster
from lima_core.synthetic.categories import SKY
from lima_core.synthetic.config import CameraConfig
from lima_core.synthetic.mesh import labelled
from lima_core.synthetic.palette import NORTH_TOWN
from lima_core.synthetic.rig import CAMERAS, LIDAR, intrinsics, make_rig
from lima_core.synthetic.shapes import Look, quads
from lima_core.synthetic.world import Stage

CONFIG = CameraConfig(image_size_px=(60, 80), noise=0.0)


def test_pixel_rays_project_back_to_their_pixels() -> None:
    matrix = intrinsics((60, 80), 66.0)
    pixels = view_points(pixel_rays(matrix, (60, 80)).T.astype(float), matrix, normalize=True)
    rows, columns = np.mgrid[0:60, 0:80]
    np.testing.assert_allclose(pixels[0], columns.reshape(-1), atol=1e-4)
    np.testing.assert_allclose(pixels[1], rows.reshape(-1), atol=1e-4)


def test_depth_of_a_wall_is_its_distance_along_the_axis_and_sky_is_zero(stage: Stage) -> None:
    corners = np.array([[[-9, -9, 7], [9, -9, 7], [9, 0, 7], [-9, 0, 7]]], float)
    mesh = labelled(quads(corners, corners[..., :2], Look("brick")), 28)
    casters = [build_caster(mesh.triangles, np.arange(len(mesh)))]
    args = (np.eye(4), intrinsics((60, 80), 66.0), CONFIG, np.random.default_rng(0))
    picture = take_picture(mesh, casters, stage.atlas, NORTH_TOWN, *args)
    np.testing.assert_allclose(picture.depth_m[:30], 7.0, atol=1e-4)
    assert (picture.depth_m[30:] == 0).all()
    assert (picture.raw_class[:30] == 28).all()
    assert (picture.raw_class[30:] == SKY).all()


def test_neighbouring_cameras_overlap_and_the_ring_is_closed() -> None:
    mounts = {m.channel: m for m in make_rig(CameraConfig(), 0)}
    assert tuple(mounts) == (LIDAR, *CAMERAS)
    spans = []
    for mount in (mounts[name] for name in CAMERAS):
        forward, matrix = mount.ego_from_sensor[:3, 2], mount.intrinsics
        half = np.rad2deg(np.arctan(200 / matrix[0, 0]))
        spans.append((np.rad2deg(np.arctan2(forward[1], forward[0])), half))
    headings = np.arange(0, 360, 1.0)
    seen = sum((np.abs((headings - h + 180) % 360 - 180) < half).astype(int) for h, half in spans)
    assert seen.min() >= 1
    assert seen.max() == 2
