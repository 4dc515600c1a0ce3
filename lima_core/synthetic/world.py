"""The world: two towns, scenes that play in them, and what the sensors see at every key frame."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from lima_core.seeds import derive, numpy_rng
from lima_core.synthetic.actors import Actor
from lima_core.synthetic.boxes import make_boxes
from lima_core.synthetic.camera import Picture, take_picture
from lima_core.synthetic.capture import Capture, Image, Scan, SceneInfo
from lima_core.synthetic.caster import Caster, build_caster
from lima_core.synthetic.config import CameraConfig, LidarConfig, WorldConfig
from lima_core.synthetic.ego import Drive, ego_pose, make_drive
from lima_core.synthetic.furniture import make_street
from lima_core.synthetic.greenery import make_greens
from lima_core.synthetic.lidar import scan
from lima_core.synthetic.materials import Atlas, build_atlas
from lima_core.synthetic.mesh import Mesh, merge, owned, sorted_by_place, stood
from lima_core.synthetic.palette import NORTH_TOWN, SOUTH_TOWN
from lima_core.synthetic.plan import Plan, make_plan
from lima_core.synthetic.rig import Mount, make_rig, pose
from lima_core.synthetic.terrain import make_hills
from lima_core.synthetic.town import Site, build_town
from lima_core.synthetic.traffic import make_actors

TOWNS = {"synthetic-north": NORTH_TOWN, "synthetic-south": SOUTH_TOWN}
FRAME_S = 0.5
"""Key frames at 2 Hz, as in nuScenes."""
MOVERS_M = 120.0
"""Moving actors farther from a sensor are left out; they would be a few pixels."""
EPOCH_US = 1_500_000_000_000_000
"""Time of the first scene: arbitrary, so that the world is the same whenever it is made."""


@dataclass(frozen=True)
class Town:
    """A town, ready for rays."""

    site: Site
    mesh: Mesh
    caster: Caster


@dataclass(frozen=True)
class Stage:
    """One scene, ready to play: a town, a drive, actors."""

    name: str
    town: Town
    atlas: Atlas
    drive: Drive
    rig: tuple[Mount, ...]
    actors: tuple[Actor, ...]
    standing: Caster
    """Actors that never move."""
    movers: tuple[tuple[Actor, Caster], ...]
    """Actors that move, each in a caster of its own frame."""
    surfaces: Mesh
    """Town, then standing actors, then moving ones (on the origin): what the casters' face numbers mean."""
    start_us: int
    num_frames: int


def get_plan(name: str, world: WorldConfig) -> Plan:
    """A town's roads and blocks by its name, without building it."""
    return make_plan(derive(world.seed, "town", name), world.num_streets)


@lru_cache(maxsize=2)
def get_town(name: str, world: WorldConfig) -> Town:
    """A town by name, built once a process."""
    seed = derive(world.seed, "town", name)
    palette = TOWNS[name]
    plan, hills = get_plan(name, world), make_hills(seed)
    site = Site(plan, hills, palette, make_greens(seed, palette.leaves), make_street(seed), seed)
    mesh = sorted_by_place(build_town(site))
    return Town(site, mesh, build_caster(mesh.triangles, np.arange(len(mesh))))


get_atlas = lru_cache(maxsize=1)(build_atlas)


def _at_rest(stage_town: Town, numbered: Sequence[tuple[int, Actor]], where_s: float | None) -> list[Mesh]:
    """Meshes of numbered actors, standing where they are at a time, or on the origin without one."""
    out = []
    for number, actor in numbered:
        mesh = owned(actor.model.mesh, number)
        if where_s is not None:
            mesh = stood(mesh, actor.place(stage_town.site.hills, where_s), actor.spot.yaw_rad)
        out.append(mesh)
    return out


def set_stage(
    name: str, number: int, town_name: str, num_frames: int, world: WorldConfig, camera: CameraConfig, turn: bool
) -> Stage:
    """Prepares one scene.

    Args:
        name: the scene's name.
        number: its position in the data set, which fixes its time of day.
        town_name: a key of ``TOWNS``.
        num_frames: key frames.
        world: streets and traffic.
        camera: for the intrinsics.
        turn: whether the ego turns within the first seconds.
    """
    town = get_town(town_name, world)
    plan = town.site.plan
    drive = make_drive(plan, world.seed, name, turn)
    actors = make_actors(plan, drive, world.seed, name, num_frames * FRAME_S, world.traffic)
    numbered = list(enumerate(actors))
    nothing = Mesh(*(part[:0] for part in vars(town.mesh).values()))
    parked = merge([nothing, *_at_rest(town, [(i, a) for i, a in numbered if not a.moves], 0.0)])
    movers = [actor for actor in actors if actor.moves]
    moving = _at_rest(town, [(i, a) for i, a in numbered if a.moves], None)
    standing = build_caster(parked.triangles, len(town.mesh) + np.arange(len(parked)))
    first = len(town.mesh) + len(parked) + np.cumsum([0, *map(len, moving)])
    solo = [
        build_caster(mesh.triangles, at + np.arange(len(mesh))) for mesh, at in zip(moving, first[:-1], strict=True)
    ]
    rig = make_rig(camera, derive(world.seed, "rig", town_name))
    surfaces, start_us = merge([town.mesh, parked, *moving]), EPOCH_US + number * 600_000_000
    atlas = get_atlas(derive(world.seed, "atlas"))
    solos = tuple(zip(movers, solo, strict=True))
    return Stage(name, town, atlas, drive, rig, actors, standing, solos, surfaces, start_us, num_frames)


def scene_info(stage: Stage, town_name: str) -> SceneInfo:
    """What a writer needs to know about a scene."""
    return SceneInfo(stage.name, town_name, stage.rig, "synthetic street scene, ray-cast; not a recording")


def casters_at(stage: Stage, seconds: float, plan_from_sensor: np.ndarray, reach: float | None) -> tuple[Caster, ...]:
    """Town, standing and moving actors at a time, without the moving actors that a sensor cannot see.

    Args:
        stage: the scene.
        seconds: since its start.
        plan_from_sensor: (4, 4) float64, where the sensor is.
        reach: half the width of a camera's view over its depth; None for a sensor that looks all around.
    """
    moved = []
    for i in _in_view(stage, [actor for actor, _ in stage.movers], seconds, plan_from_sensor, reach):
        actor, caster = stage.movers[i]
        yaw = actor.spot.yaw_rad
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        plan_from_mesh = pose(turn, actor.place(stage.town.site.hills, seconds)).astype(np.float32)
        moved.append(replace(caster, plan_from_mesh=plan_from_mesh))
    return stage.town.caster, stage.standing, *moved


def _in_view(
    stage: Stage, movers: Sequence[Actor], seconds: float, plan_from_sensor: np.ndarray, reach: float | None
) -> np.ndarray:
    """Positions in ``movers`` of those that may be seen, or throw a shadow that is: 13 m are the longest of either."""
    spots = [actor.spot for actor in movers]
    along = np.array([[s.x_m, s.y_m, s.yaw_rad, s.speed_m_s] for s in spots]).reshape(-1, 4)
    ahead = np.stack([np.cos(along[:, 2]), np.sin(along[:, 2])], 1)
    xy = along[:, :2] + seconds * along[:, 3:] * ahead
    size = np.asarray(stage.town.site.plan.size_m)
    in_town = ((xy > 2.0) & (xy < size - 2.0)).all(1)
    local_from_plan = np.linalg.inv(plan_from_sensor)
    height = np.full(len(xy), plan_from_sensor[2, 3])
    local = np.column_stack([xy, height]) @ local_from_plan[:3, :3].T + local_from_plan[:3, 3]
    kept = in_town & (np.abs(local).max(1) <= MOVERS_M)
    if reach is not None:
        depth = local[:, 2]
        kept &= (depth > -13) & (np.abs(local[:, 0]) < np.maximum(depth, 0) * reach + 13)
    return np.flatnonzero(kept)


def look(stage: Stage, mount: Mount, index: int, camera: CameraConfig, seed: int) -> tuple[Image, Picture]:
    """One camera's image at a key frame, with what only the world knows about it."""
    seconds = index * FRAME_S + mount.offset_us * 1e-6
    plan_from_ego = ego_pose(stage.drive, stage.town.site.hills, seconds)
    assert mount.intrinsics is not None
    rng = numpy_rng(seed, "camera", stage.name, index, mount.channel)
    plan_from_camera = plan_from_ego @ mount.ego_from_sensor
    reach = camera.image_size_px[1] / 2 / mount.intrinsics[0, 0]
    picture = take_picture(
        stage.surfaces, casters_at(stage, seconds, plan_from_camera, reach), stage.atlas, stage.town.site.palette,
        plan_from_camera, mount.intrinsics, camera, rng,
    )  # fmt: skip
    stamp = stage.start_us + int(index * FRAME_S * 1e6) + mount.offset_us
    global_from_ego = stage.town.site.plan.global_from_plan @ plan_from_ego
    return Image(mount.channel, stamp, global_from_ego, picture.pixels, picture.raw_class, picture.depth_m), picture


def capture(stage: Stage, index: int, world: WorldConfig, lidar: LidarConfig, camera: CameraConfig) -> Capture:
    """Everything the sensors see at one key frame."""
    seconds, site = index * FRAME_S, stage.town.site
    mount, *cameras = stage.rig
    plan_from_ego = ego_pose(stage.drive, site.hills, seconds)
    plan_from_lidar = plan_from_ego @ mount.ego_from_sensor
    rng = numpy_rng(world.seed, "lidar", stage.name, index)
    casters = casters_at(stage, seconds, plan_from_lidar, None)
    points, raw_class, instance = scan(stage.surfaces, casters, stage.atlas, plan_from_lidar, lidar, rng)
    looks = [look(stage, mount, index, camera, world.seed) for mount in cameras]
    stamp = stage.start_us + int(seconds * 1e6)
    boxes = make_boxes(
        stage.actors,
        site,
        seconds,
        plan_from_ego,
        plan_from_lidar,
        points,
        stage.rig,
        [picture for _, picture in looks],
    )
    # The town's instance is -1, and so is the last entry.
    moving = np.array([*(actor.moves for actor in stage.actors), False])[instance]
    taken = Scan(stamp, site.plan.global_from_plan @ plan_from_ego, points, raw_class, moving)
    return Capture(stage.name, index, taken, tuple(image for image, _ in looks), boxes)


def captures(stage: Stage, world: WorldConfig, lidar: LidarConfig, camera: CameraConfig) -> Iterator[Capture]:
    """All key frames of a scene, in time order."""
    return (capture(stage, index, world, lidar, camera) for index in range(stage.num_frames))
