"""Who is on the streets of a scene: parked, moving and waiting vehicles, people, roadworks. No two ever overlap.

Streets along the ego's first street have green; vehicles on the others wait before crossings.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from lima_core.seeds import numpy_rng
from lima_core.synthetic import people, roadworks, vehicles
from lima_core.synthetic.actors import Actor, Spot
from lima_core.synthetic.ego import STEP_M, Drive
from lima_core.synthetic.plan import KERB_M, Plan, Road, segments
from lima_core.synthetic.vehicles import Model

REACH_M = 85.0
"""Actors farther from every place of the drive are left out."""

FOOTPRINT_M = {
    "car": (4.9, 1.95), "truck": (9.0, 2.5), "bus": (12.6, 2.6), "trailer": (10.2, 2.5), "construction": (5.6, 2.4),
    "motorcycle": (2.2, 0.8), "ridden_motorcycle": (2.2, 0.8), "bicycle": (1.8, 0.6), "ridden_bicycle": (1.8, 0.6),
    "adult": (0.7, 0.6), "child": (0.7, 0.6), "worker": (0.7, 0.6), "cone": (0.45, 0.45), "barrier": (2.0, 0.55),
    "redwhite": (2.0, 0.55),
}  # fmt: skip
"""Largest length and width of every kind."""

ON_LANES = {"car": 0.56, "truck": 0.13, "bus": 0.10, "ridden_motorcycle": 0.11, "trailer": 0.06, "construction": 0.04}
PARKED = {"car": 0.68, "truck": 0.10, "motorcycle": 0.10, "trailer": 0.08, "construction": 0.04}
WALKING = {"adult": 0.85, "child": 0.15}


def make_model(kind: str, rng: np.random.Generator) -> Model:
    """A model of one kind, each different."""
    if kind in ("adult", "child", "worker"):
        return people.pedestrian(rng, f"human.pedestrian.{'construction_worker' if kind == 'worker' else kind}")
    if kind.endswith(("bicycle", "motorcycle")):
        make = people.bicycle if kind.endswith("bicycle") else people.motorcycle
        return make(rng, kind.startswith("ridden"))
    if kind in ("barrier", "redwhite"):
        return roadworks.barrier(rng, plastic=kind == "redwhite")
    if kind == "cone":
        return roadworks.cone(rng)
    makers = {"car": vehicles.car, "truck": vehicles.truck, "bus": vehicles.bus, "trailer": vehicles.trailer}
    return makers.get(kind, vehicles.construction)(rng)


def attribute(spot: Spot, parked: bool) -> str | None:
    """NuScenes attribute of an actor."""
    if spot.kind in ("cone", "barrier", "redwhite"):
        return None
    if spot.kind in ("adult", "child", "worker"):
        return "pedestrian.moving" if spot.speed_m_s else "pedestrian.standing"
    if spot.kind.endswith(("bicycle", "motorcycle")):
        return "cycle.with_rider" if spot.kind.startswith("ridden") else "cycle.without_rider"
    return "vehicle.moving" if spot.speed_m_s else "vehicle.parked" if parked else "vehicle.stopped"


def _discs(spot: Spot, times_s: np.ndarray) -> tuple[np.ndarray, float]:
    """Discs that cover an actor: middles (T, D, 2) over time and their radius."""
    length, width = FOOTPRINT_M[spot.kind]
    along = np.linspace(-1, 1, max(int(np.ceil(length / width)), 1)) * max(length - width, 0) / 2
    ahead = np.array([np.cos(spot.yaw_rad), np.sin(spot.yaw_rad)])
    return spot.at(times_s)[:, None] + along[:, None] * ahead, width / 2 + 0.1


@dataclass
class Roster:
    """Spots taken so far; a new one is taken only where it meets nobody at any time."""

    drive: Drive
    times_s: np.ndarray
    spots: list[tuple[Spot, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        poses = np.array([self.drive.position(t) for t in self.times_s])
        self.ego = poses[:, :2]
        ahead = np.stack([np.cos(poses[:, 2]), np.sin(poses[:, 2])], 1)
        self.middles = poses[:, None, :2] + np.array([-0.8, 0.4, 1.6, 2.8, 3.6])[:, None] * ahead[:, None]
        self.radii = np.full(5, 1.05)

    def take(self, spot: Spot, parked: bool = False) -> bool:
        """Adds a spot if it is near the drive and free; says whether it did."""
        start = np.array([spot.x_m, spot.y_m])
        if np.linalg.norm(self.ego - start, axis=1).min() > REACH_M:
            return False
        middles, radius = _discs(spot, self.times_s)
        gap = np.linalg.norm(self.middles[:, :, None] - middles[:, None], axis=-1).min((0, 2)) - self.radii
        if gap.min() < radius:
            return False
        self.middles = np.concatenate([self.middles, middles], 1)
        self.radii = np.concatenate([self.radii, np.full(middles.shape[1], radius)])
        self.spots.append((spot, parked))
        return True


def on_road(
    road: Road, along_m: float, way: int, right_m: float, kind: str, speed: float = 0.0, above: float = 0.0
) -> Spot:
    """Spot ``along_m`` a road, ``right_m`` to the right of its middle for traffic in direction ``way`` (1 or -1)."""
    if road.axis == "x":
        return Spot(kind, along_m, road.centre_m - way * right_m, 0.0 if way > 0 else np.pi, speed, above)
    return Spot(kind, road.centre_m + way * right_m, along_m, way * np.pi / 2, speed, above)


def _draw(shares: dict[str, float], rng: np.random.Generator) -> str:
    weights = np.array(list(shares.values()))
    return str(rng.choice(list(shares), p=weights / weights.sum()))


def _on_path(plan: Plan, drive: Drive, distance_m: float) -> tuple[Road, float, int] | None:
    """Road, position along it and direction of the ego ``distance_m`` into its drive; None in a turn."""
    i = int(distance_m / STEP_M)
    if i + 10 >= len(drive.path):
        return None
    step = drive.path[i + 10] - drive.path[i]
    axis = int(np.argmax(np.abs(step)))
    if np.abs(step).min() > 1e-6:
        return None
    roads = [r for r in plan.roads if r.axis == "xy"[axis]]
    road = min(roads, key=lambda r: abs(r.centre_m - drive.path[i][1 - axis]))
    return road, float(drive.path[i][axis]), int(np.sign(step[axis]))


def _outer_m(road: Road) -> float:
    """Where something stands at the kerb: in the parking strip, or on an avenue's outer lane."""
    return road.parking_m or road.lanes_m[-1] + 0.6


def _clear_of_crossings(plan: Plan, road: Road, along_m: float, margin_m: float) -> bool:
    return any(a + margin_m < along_m < b - margin_m for a, b in segments(plan, road))


def add_wishes(roster: Roster, plan: Plan, rng: np.random.Generator) -> None:
    """The rare kinds, near the first metres of the drive, so that every scene shows them."""
    drive = roster.drive
    far = drive.distance(float(roster.times_s[-1]))
    kinds = [
        "bus",
        "trailer",
        "truck",
        "motorcycle",
        "construction",
        "ridden_bicycle",
        "ridden_motorcycle",
        "oncoming_bus",
    ]
    for kind in rng.permutation(kinds):
        for _ in range(30):
            found = _on_path(plan, drive, float(rng.uniform(10, far + 35)))
            if found is None or not _clear_of_crossings(plan, found[0], found[1], 9.0):
                continue
            road, along, way = found
            if kind == "ridden_bicycle":
                spot = on_road(road, along, -way, 8.2 if road.avenue else 3.35, kind, float(rng.uniform(2.5, 4.5)))
            elif kind in ("ridden_motorcycle", "oncoming_bus"):
                spot = on_road(road, along + way * 10, -way, road.lanes_m[-1], kind.replace("oncoming_", ""), 6.5)
            else:
                spot = on_road(
                    road, along, *_side(way, rng), _outer_m(road) + (0.35 if kind == "motorcycle" else 0.0), str(kind)
                )
            if roster.take(spot, parked=not spot.speed_m_s):
                break


def _side(way: int, rng: np.random.Generator) -> tuple[int]:
    return (way if rng.random() < 0.5 else -way,)


def add_roadworks(roster: Roster, plan: Plan, rng: np.random.Generator) -> None:
    """A machine, people in vests, a row of barriers and cones, at one or two places beside the drive."""
    far = roster.drive.distance(float(roster.times_s[-1]))
    done = 0
    for _ in range(40):
        found = _on_path(plan, roster.drive, float(rng.uniform(4, far + 25)))
        if found is None or not _clear_of_crossings(plan, found[0], found[1], 13.0):
            continue
        done += _roadworks(roster, found[0], found[1], _side(found[2], rng)[0], rng)
        if done == 2:
            return


def _roadworks(roster: Roster, road: Road, along: float, way: int, rng: np.random.Generator) -> bool:
    machine_m = 5.05 if not road.avenue else 7.4
    if not roster.take(on_road(road, along, way, machine_m, "construction"), parked=True):
        return False
    kind, line_m = str(rng.choice(["barrier", "redwhite"])), machine_m - 1.62
    for s in np.arange(-6.9, 7.0, 2.3):
        roster.take(on_road(road, along + s, way, line_m, kind))
    for end in (-1, 1):
        for i in range(5):
            roster.take(on_road(road, along + end * (8.8 + 1.3 * i), way, line_m + 0.45 * i, "cone"))
    for s in rng.uniform(4.0, 7.5, 3) * [1, -1, 1]:
        roster.take(on_road(road, along + s, way, machine_m + rng.uniform(-0.6, 0.6), "worker"))
    return True


def add_lanes(roster: Roster, plan: Plan, density: float, rng: np.random.Generator) -> None:
    """Vehicles on lanes: moving where there is green, else waiting before the next crossing."""
    for road, (start, stop), way in _stretches(plan, rng):
        speed = float(rng.uniform(5.5, 9.5)) if road.axis == "y" else 0.0
        for lane in road.lanes_m:
            for along in np.arange(start + 4, stop, 17.0) + rng.uniform(-2, 2):
                ahead = stop - along if way > 0 else along - start
                if rng.random() > 0.55 * density or (not speed and not 8 < ahead < 45):
                    continue
                roster.take(on_road(road, float(along), way, lane, _draw(ON_LANES, rng), speed))


def _stretches(plan: Plan, rng: np.random.Generator) -> Iterator[tuple[Road, tuple[float, float], int]]:
    """Both directions of every stretch of road, in random order of roads."""
    for i in rng.permutation(len(plan.roads)):
        for stretch in segments(plan, plan.roads[i]):
            yield from ((plan.roads[i], stretch, way) for way in (1, -1))


def add_kerbside(roster: Roster, plan: Plan, density: float, rng: np.random.Generator) -> None:
    """Parked vehicles, cyclists, and people on the sidewalks."""
    for road, (start, stop), way in _stretches(plan, rng):
        for along in np.arange(start + 9, stop - 9, 6.2):
            if road.parking_m and rng.random() < 0.55 * density:
                roster.take(on_road(road, float(along), way, road.parking_m, _draw(PARKED, rng)), parked=True)
        for along in np.arange(start + 5, stop - 5, 8.0) + rng.uniform(-2, 2):
            if rng.random() < 0.5 * density:
                roster.take(_walker(road, float(along), way, rng))
        for along in rng.uniform(start + 6, max(stop - 6, start + 7), 2):
            if rng.random() < 0.5 * density:
                roster.take(_cyclist(road, float(along), way, rng), parked=True)


def _walker(road: Road, along: float, way: int, rng: np.random.Generator) -> Spot:
    speed = float(rng.uniform(0.7, 1.7)) if rng.random() < 0.75 else 0.0
    flip = bool(rng.random() < 0.5)
    beside = (road.half_m + rng.uniform(1.8, 2.8)) * (-1 if flip else 1)
    return on_road(road, along, -way if flip else way, beside, _draw(WALKING, rng), speed, KERB_M)


def _cyclist(road: Road, along: float, way: int, rng: np.random.Generator) -> Spot:
    if rng.random() < 0.6:
        return on_road(road, along, way, 8.2 if road.avenue else 3.35, "ridden_bicycle", float(rng.uniform(2.5, 5.0)))
    return on_road(road, along, way, road.half_m + 1.7, "bicycle", 0.0, KERB_M)


def make_actors(
    plan: Plan, drive: Drive, seed: int, scene: str, duration_s: float, density: float
) -> tuple[Actor, ...]:
    """Actors of a scene, none of which touches another or the ego for ``duration_s``.

    Args:
        plan: the town.
        drive: the ego's drive.
        seed: seed of the world.
        scene: name of the scene.
        duration_s: how long the scene is.
        density: 1 is a busy street, 0 an empty one.
    """
    rng = numpy_rng(seed, "traffic", scene)
    roster = Roster(drive, np.arange(-0.25, duration_s + 0.3, 0.25))
    if density > 0:
        add_roadworks(roster, plan, rng)
        add_wishes(roster, plan, rng)
        add_lanes(roster, plan, density, rng)
        add_kerbside(roster, plan, density, rng)
    return tuple(
        Actor(spot, make_model(spot.kind, numpy_rng(seed, "model", scene, i)), attribute(spot, parked))
        for i, (spot, parked) in enumerate(roster.spots)
    )
