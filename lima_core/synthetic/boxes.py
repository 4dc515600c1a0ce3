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
    actor: Actor,
    xyz_m: np.ndarray,
    local_from_plan: Sequence[np.ndarray],
    rig: Sequence[Mount],
    image_size_px: tuple[int, int],
) -> float:
    """Pixels an unhidden actor would cover in all cameras: clipped bounds of its projected box, four fifths filled."""
    signs = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (0, 2)]) / 2
    corners = signs * actor.model.size_m
    cos, sin = np.cos(actor.spot.yaw_rad), np.sin(actor.spot.yaw_rad)
    plan = corners @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) + xyz_m
    total = 0.0
    for mount, inverse in zip(rig, local_from_plan, strict=True):
        if mount.intrinsics is None:
            continue
        local = plan @ inverse[:3, :3].T + inverse[:3, 3]
        if local[:, 2].min() < 0.3:
            continue
        uv = (local @ mount.intrinsics.T)[:, :2] / local[:, 2:]
        size = np.array(image_size_px[::-1])
        total += 0.8 * float(np.prod(np.maximum(np.clip(uv.max(0), 0, size) - np.clip(uv.min(0), 0, size), 0)))
    return total


def make_boxes(
    actors: Sequence[Actor], site: Site, seconds: float, plan_from_ego: np.ndarray, plan_from_lidar: np.ndarray,
    points: np.ndarray, rig: Sequence[Mount], pictures: Sequence[Picture],
) -> tuple[Box, ...]:  # fmt: skip
    """Boxes of the actors that a return or a pixel shows within ``BOX_REACH_M``, at the LiDAR's time.

    Visibility compares pixels with the actor's projected box at the LiDAR's time: an estimate, good to one of nuScenes'
    four levels.
    """
    world = points[:, :3] @ plan_from_lidar[:3, :3].T + plan_from_lidar[:3, 3]
    world = np.asfortranarray(world, np.float32)
    turn = site.plan.global_from_plan
    heading = float(np.arctan2(turn[1, 0], turn[0, 0]))
    local_from_plan = [np.linalg.inv(plan_from_ego @ mount.ego_from_sensor) for mount in rig]
    seen, out = seen_pixels(pictures, len(actors)), []
    for number, actor in enumerate(actors):
        xyz = actor.place(site.hills, seconds)
        near = np.linalg.norm(xyz - plan_from_ego[:3, 3]) < BOX_REACH_M
        if not near or not actor.in_town(site.plan, seconds):
            continue
        size = boxed_size(actor)
        centre = xyz + np.array([0, 0, size[2] / 2])
        inside = points_inside(world, centre.astype(np.float32), actor.spot.yaw_rad, size)
        if not inside and not seen[number]:
            continue
        expected = expected_pixels(actor, xyz, local_from_plan, rig, pictures[0].raw_class.shape)
        yaw = actor.spot.yaw_rad + heading
        velocity = actor.spot.speed_m_s * np.array([np.cos(yaw), np.sin(yaw)])
        out.append(Box(
            number, actor.model.raw_class, turn[:3, :3] @ centre + turn[:3, 3], yaw, size, velocity,
            actor.attribute, inside, min(float(seen[number]) / max(expected, 1.0), 1.0),
        ))  # fmt: skip
    return tuple(out)
