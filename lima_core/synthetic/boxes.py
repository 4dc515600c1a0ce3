"""Annotations of a key frame: which actors are near, how many returns they hold, how much of them is seen."""

from collections.abc import Sequence

import numpy as np

from lima_core.synthetic.actors import Actor
from lima_core.synthetic.camera import Picture
from lima_core.synthetic.capture import Box
from lima_core.synthetic.rig import Mount
from lima_core.synthetic.town import Site

BOX_REACH_M = 75.0
BOX_MARGIN_M = 0.05
"""Boxes are this much larger than the actor on every side but the bottom, so that range noise stays inside."""


def points_inside(points: np.ndarray, centre_m: np.ndarray, yaw_rad: float, size_m: Sequence[float]) -> int:
    """Number of points (N, 3) in an upright box, all in one frame."""
    radius = np.hypot(size_m[0], size_m[1]) / 2
    near = np.flatnonzero(np.abs(points[:, 0] - centre_m[0]) < radius)
    near = points[near[np.abs(points[near, 1] - centre_m[1]) < radius]] - centre_m
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    local = np.abs(near @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]))
    return int(np.count_nonzero((local <= np.asarray(size_m) / 2).all(1)))


def boxed_size(actor: Actor) -> tuple[float, float, float]:
    """Length, width, height of an actor's annotation."""
    length, width, height = actor.model.size_m
    return length + 2 * BOX_MARGIN_M, width + 2 * BOX_MARGIN_M, height + BOX_MARGIN_M


def seen_pixels(pictures: Sequence[Picture], num_actors: int) -> np.ndarray:
    """(A,) pixels of every actor over all cameras."""
    found = np.concatenate([p.instance[p.instance >= 0] for p in pictures])
    return np.bincount(found, minlength=num_actors)


def expected_pixels(
    actors: Sequence[Actor],
    xyz_m: np.ndarray,
    local_from_plan: Sequence[np.ndarray],
    rig: Sequence[Mount],
    image_size_px: tuple[int, int],
) -> np.ndarray:
    """(A,) pixels unhidden actors at (A, 3) would cover in all cameras: clipped projected boxes, four fifths filled."""
    signs = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (0, 2)]) / 2
    corners = signs * np.array([actor.model.size_m for actor in actors]).reshape(-1, 1, 3)
    yaw = np.array([actor.spot.yaw_rad for actor in actors])[:, None]
    x, y = np.cos(yaw), np.sin(yaw)
    x, y = corners[..., 0] * x - corners[..., 1] * y, corners[..., 0] * y + corners[..., 1] * x
    plan = np.stack([x, y, corners[..., 2]], -1) + xyz_m[:, None]
    total, size = np.zeros(len(actors)), np.array(image_size_px[::-1])
    for mount, inverse in zip(rig, local_from_plan, strict=True):
        if mount.intrinsics is None:
            continue
        local = (plan @ inverse[:3, :3].T + inverse[:3, 3]) @ mount.intrinsics.T
        uv = np.clip(local[..., :2] / np.maximum(local[..., 2:], 0.3), 0, size)
        total += 0.8 * np.prod(uv.max(1) - uv.min(1), 1) * (local[..., 2].min(1) >= 0.3)
    return total


def places(actors: Sequence[Actor], site: Site, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Bottom centres (A, 3) of actors in metres, plan frame, and whether each is still on the map (A,)."""
    spots = np.array([(s.x_m, s.y_m, s.yaw_rad, s.speed_m_s, s.above_m) for s in (actor.spot for actor in actors)])
    x, y, yaw, speed, above = spots.reshape(-1, 5).T
    x, y = x + seconds * speed * np.cos(yaw), y + seconds * speed * np.sin(yaw)
    length, width = site.plan.size_m
    on_map = (x > 2.0) & (y > 2.0) & (x < length - 2.0) & (y < width - 2.0)
    return np.stack([x, y, site.hills.height(x, y) + above], 1), on_map


def make_boxes(
    actors: Sequence[Actor], site: Site, seconds: float, plan_from_ego: np.ndarray, plan_from_lidar: np.ndarray,
    points: np.ndarray, rig: Sequence[Mount], pictures: Sequence[Picture],
) -> tuple[Box, ...]:  # fmt: skip
    """Boxes of the actors that a return or a pixel shows within ``BOX_REACH_M``, at the LiDAR's time.

    Visibility compares pixels with the actor's projected box at the LiDAR's time: an estimate, good to one of nuScenes'
    four levels.
    """
    if not actors:
        return ()
    world = points[:, :3] @ plan_from_lidar[:3, :3].T + plan_from_lidar[:3, 3]
    world = np.asfortranarray(world[np.argsort(world[:, 0])], np.float32)
    turn = site.plan.global_from_plan
    heading = float(np.arctan2(turn[1, 0], turn[0, 0]))
    local_from_plan = [np.linalg.inv(plan_from_ego @ mount.ego_from_sensor) for mount in rig]
    xyz, on_map = places(actors, site, seconds)
    expected = expected_pixels(actors, xyz, local_from_plan, rig, pictures[0].raw_class.shape)
    seen, out = seen_pixels(pictures, len(actors)), []
    near = np.linalg.norm(xyz - plan_from_ego[:3, 3], axis=1) < BOX_REACH_M
    for number in np.flatnonzero(near & on_map).tolist():
        actor, size = actors[number], boxed_size(actors[number])
        centre = xyz[number] + np.array([0, 0, size[2] / 2])
        reach = np.hypot(size[0], size[1]) / 2
        first, last = np.searchsorted(world[:, 0], [centre[0] - reach, centre[0] + reach])
        inside = points_inside(world[first:last], centre.astype(np.float32), actor.spot.yaw_rad, size)
        if not inside and not seen[number]:
            continue
        yaw = actor.spot.yaw_rad + heading
        velocity = actor.spot.speed_m_s * np.array([np.cos(yaw), np.sin(yaw)])
        out.append(Box(
            number, actor.model.raw_class, turn[:3, :3] @ centre + turn[:3, 3], yaw, size, velocity,
            actor.attribute, inside, min(float(seen[number]) / max(float(expected[number]), 1.0), 1.0),
        ))  # fmt: skip
    return tuple(out)
