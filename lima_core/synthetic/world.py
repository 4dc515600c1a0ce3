"""The world: two towns, scenes that play in them, and what the sensors see at every key frame."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from lima_core.synthetic.greenery import make_greens
from lima_core.synthetic.lidar import scan
from lima_core.synthetic.materials import Atlas, build_atlas
from lima_core.synthetic.mesh import Mesh, merge, owned, placed, stood
from lima_core.synthetic.palette import NORTH_TOWN, SOUTH_TOWN
from lima_core.synthetic.plan import Plan, make_plan
from lima_core.synthetic.rig import Mount, make_rig
from lima_core.synthetic.terrain import make_hills
from lima_core.synthetic.town import Site, build_town
from lima_core.synthetic.traffic import make_actors

TOWNS = {"synthetic-north": NORTH_TOWN, "synthetic-south": SOUTH_TOWN}
FRAME_S = 0.5
"""Key frames at 2 Hz, as in nuScenes."""
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
    surfaces: Mesh
    """Town, then standing actors, then moving ones at rest: attributes in the casters' order."""
    start_us: int
    num_frames: int


@lru_cache(maxsize=2)
def get_town(name: str, world: WorldConfig) -> Town:
    """A town by name, built once a process."""
    seed = derive(world.seed, "town", name)
    palette = TOWNS[name]
    plan, hills = make_plan(seed, world.num_streets), make_hills(seed)
    site = Site(plan, hills, palette, make_greens(seed, palette.leaves), seed)
    mesh = build_town(site)
    return Town(site, mesh, build_caster(mesh.triangles))


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
    parked = _at_rest(town, [(i, a) for i, a in numbered if not a.moves], 0.0)
    moving = _at_rest(town, [(i, a) for i, a in numbered if a.moves], None)
    standing = build_caster(np.concatenate([m.triangles for m in parked]) if parked else np.zeros((0, 3, 3), np.float32))
    return Stage(
        name, town, get_atlas(derive(world.seed, "atlas")), drive, make_rig(camera, derive(world.seed, "rig", town_name)),
        actors, standing, merge([town.mesh, *parked, *moving]), EPOCH_US + number * 600_000_000, num_frames,
    )  # fmt: skip


def scene_info(stage: Stage, town_name: str) -> SceneInfo:
    """What a writer needs to know about a scene."""
    return SceneInfo(stage.name, town_name, stage.rig, "synthetic street scene, ray-cast; not a recording")


def casters_at(stage: Stage, seconds: float) -> tuple[Caster, ...]:
    """Town, standing and moving actors at a time; actors that left town are out of every ray's reach."""
    site, moved = stage.town.site, []
    for actor in (a for a in stage.actors if a.moves):
        place = actor.place(site.hills, seconds)
        if not actor.in_town(site.plan, seconds):
            place = np.array([0.0, 0.0, -5000.0])
        moved.append(placed(actor.model.mesh.triangles, place, actor.spot.yaw_rad))
    moving = (build_caster(np.concatenate(moved)),) if moved else ()
    return stage.town.caster, stage.standing, *moving


def look(stage: Stage, mount: Mount, index: int, camera: CameraConfig, seed: int) -> tuple[Image, Picture]:
    """One camera's image at a key frame, with what only the world knows about it."""
    seconds = index * FRAME_S + mount.offset_us * 1e-6
    plan_from_ego = ego_pose(stage.drive, stage.town.site.hills, seconds)
    assert mount.intrinsics is not None
    rng = numpy_rng(seed, "camera", stage.name, index, mount.channel)
    picture = take_picture(
        stage.surfaces, casters_at(stage, seconds), stage.atlas, stage.town.site.palette,
        plan_from_ego @ mount.ego_from_sensor, mount.intrinsics, camera, rng,
    )  # fmt: skip
    stamp = stage.start_us + int(index * FRAME_S * 1e6) + mount.offset_us
    pose = stage.town.site.plan.global_from_plan @ plan_from_ego
    return Image(mount.channel, stamp, pose, picture.pixels, picture.raw_class, picture.depth_m), picture


def capture(stage: Stage, index: int, world: WorldConfig, lidar: LidarConfig, camera: CameraConfig) -> Capture:
    """Everything the sensors see at one key frame."""
    seconds, site = index * FRAME_S, stage.town.site
    mount, *cameras = stage.rig
    plan_from_ego = ego_pose(stage.drive, site.hills, seconds)
    plan_from_lidar = plan_from_ego @ mount.ego_from_sensor
    rng = numpy_rng(world.seed, "lidar", stage.name, index)
    points, raw_class, _ = scan(stage.surfaces, casters_at(stage, seconds), stage.atlas, plan_from_lidar, lidar, rng)
    looks = [look(stage, mount, index, camera, world.seed) for mount in cameras]
    stamp = stage.start_us + int(seconds * 1e6)
    boxes = make_boxes(
        stage.actors, site, seconds, plan_from_ego, plan_from_lidar, points, stage.rig, [picture for _, picture in looks]
    )
    taken = Scan(stamp, site.plan.global_from_plan @ plan_from_ego, points, raw_class)
    return Capture(stage.name, index, taken, tuple(image for image, _ in looks), boxes)


def captures(stage: Stage, world: WorldConfig, lidar: LidarConfig, camera: CameraConfig) -> Iterator[Capture]:
    """All key frames of a scene, in time order."""
    return (capture(stage, index, world, lidar, camera) for index in range(stage.num_frames))
