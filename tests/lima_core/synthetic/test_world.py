import numpy as np

from lima_core.synthetic.capture import Capture
from lima_core.synthetic.categories import SKY
from lima_core.synthetic.config import CameraConfig, LidarConfig, WorldConfig
from lima_core.synthetic.lidar import scan
from lima_core.synthetic.world import FRAME_S, Stage, capture, casters_at, ego_pose

WORLD = WorldConfig(num_streets=2)
CAMERA = CameraConfig(image_size_px=(112, 200), noise=0.0)
EXACT = LidarConfig(num_azimuths=360, range_noise_m=0.0, dropout=0.0)


def _projected(stage: Stage, taken: Capture, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rounded pixels, depths and rows of the scan's points in one camera, each at its own time."""
    image, mount = taken.images[number], stage.rig[1 + number]
    camera_from_lidar = (
        np.linalg.inv(image.global_from_ego @ mount.ego_from_sensor)
        @ taken.scan.global_from_ego @ stage.rig[0].ego_from_sensor
    )  # fmt: skip
    local = taken.scan.points[:, :3] @ camera_from_lidar[:3, :3].T + camera_from_lidar[:3, 3]
    uv = local @ mount.intrinsics.T
    uv = uv[:, :2] / uv[:, 2:]
    height, width = image.depth_m.shape
    inside = np.flatnonzero((local[:, 2] > 1) & (uv > 0).all(1) & (uv[:, 0] < width - 1) & (uv[:, 1] < height - 1))
    return np.round(uv[inside]).astype(int), local[inside, 2], inside


def test_scan_and_images_agree_on_depth_and_class(stage: Stage, captured: tuple[Capture, ...]) -> None:
    for taken in captured:
        agree, labels = [], []
        for number, image in enumerate(taken.images):
            pixel, depth, rows = _projected(stage, taken, number)
            truth = image.depth_m[pixel[:, 1], pixel[:, 0]]
            same = np.abs(truth - depth) < 0.05 * depth + 0.15
            agree.append(same)
            labels.append((image.raw_class[pixel[:, 1], pixel[:, 0]] == taken.scan.raw_class[rows])[same])
        assert np.concatenate(agree).mean() > 0.8
        assert np.concatenate(labels).mean() > 0.97


def test_a_wrong_pose_would_not_agree(stage: Stage, captured: tuple[Capture, ...]) -> None:
    pixel, depth, _ = _projected(stage, captured[0], 0)
    truth = captured[0].images[0].depth_m[pixel[:, 1], np.clip(pixel[:, 0] + 12, 0, 199)]
    moved = np.abs(truth - depth) < 0.05 * depth + 0.15
    truth = captured[0].images[0].depth_m[pixel[:, 1], pixel[:, 0]]
    assert moved.mean() < (np.abs(truth - depth) < 0.05 * depth + 0.15).mean() - 0.05


def test_an_actors_returns_lie_in_its_box(stage: Stage) -> None:
    plan_from_lidar = ego_pose(stage.drive, stage.town.site.hills, 0.5) @ stage.rig[0].ego_from_sensor
    casters = casters_at(stage, 0.5, plan_from_lidar, None)
    points, _, instance = scan(stage.surfaces, casters, stage.atlas, plan_from_lidar, EXACT, np.random.default_rng(0))
    world = points[:, :3] @ plan_from_lidar[:3, :3].T + plan_from_lidar[:3, 3]
    seen = np.unique(instance[instance >= 0])
    assert len(seen) > 5
    for number in seen:
        actor = stage.actors[number]
        offset = world[instance == number] - actor.place(stage.town.site.hills, 0.5)
        cos, sin = np.cos(actor.spot.yaw_rad), np.sin(actor.spot.yaw_rad)
        along, left = offset[:, 0] * cos + offset[:, 1] * sin, offset[:, 1] * cos - offset[:, 0] * sin
        length, width, height = actor.model.size_m
        assert np.abs(along).max() < length / 2 + 5e-3
        assert np.abs(left).max() < width / 2 + 5e-3
        assert offset[:, 2].min() > -5e-3
        assert offset[:, 2].max() < height + 5e-3


def test_every_sensor_has_the_ego_pose_of_its_own_time(stage: Stage, captured: tuple[Capture, ...]) -> None:
    taken = captured[1]
    turn = stage.town.site.plan.global_from_plan
    for image in taken.images:
        late_s = (image.timestamp_us - taken.scan.timestamp_us) * 1e-6
        assert -0.05 < late_s < 0
        expected = turn @ ego_pose(stage.drive, stage.town.site.hills, FRAME_S + late_s)
        np.testing.assert_allclose(image.global_from_ego, expected, atol=1e-9)
        assert np.linalg.norm((image.global_from_ego - taken.scan.global_from_ego)[:3, 3]) > 1e-3


def test_the_same_frame_is_the_same_bytes(stage: Stage, captured: tuple[Capture, ...]) -> None:
    again = capture(stage, 1, WORLD, EXACT, CAMERA)
    assert again.scan.points.tobytes() == captured[1].scan.points.tobytes()
    for a, b in zip(again.images, captured[1].images, strict=True):
        assert a.pixels.tobytes() == b.pixels.tobytes()
        assert a.depth_m.tobytes() == b.depth_m.tobytes()


def test_images_show_sky_above_and_road_below(captured: tuple[Capture, ...]) -> None:
    front = captured[0].images[0]
    assert (front.raw_class[-10:] != SKY).all()
    assert (front.raw_class == SKY).any()
    assert front.pixels[front.raw_class == SKY].mean() > front.pixels[front.raw_class != SKY].mean()
