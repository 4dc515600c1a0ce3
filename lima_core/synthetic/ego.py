"""The ego's drive: a path along lanes with rounded turns at crossings, and its pose at any time."""

from dataclasses import dataclass

import numpy as np

from lima_core.seeds import numpy_rng
from lima_core.synthetic.plan import Plan, Road
from lima_core.synthetic.rig import pose
from lima_core.synthetic.terrain import Hills

STEP_M = 0.1
RADIUS_M = {"right": 7.0, "left": 11.0}


@dataclass(frozen=True)
class Drive:
    """A path and a speed."""

    path: np.ndarray
    """(P, 2) float64, metres, plan frame, a point every ``STEP_M``."""
    speed_m_s: float
    sway_m: float
    """The ego runs ahead of and behind constant speed by this much, with a period of 7 s."""

    def distance(self, seconds: float) -> float:
        """Metres along the path after ``seconds``."""
        return self.speed_m_s * seconds + self.sway_m * (1 - np.cos(2 * np.pi * seconds / 7.0))

    def position(self, seconds: float) -> np.ndarray:
        """(2,) position and yaw appended: x, y, yaw."""
        at = np.clip(self.distance(seconds) / STEP_M, 0, len(self.path) - 2.001)
        i = int(at)
        xy = self.path[i] + (at - i) * (self.path[i + 1] - self.path[i])
        ahead, behind = self.path[min(i + 8, len(self.path) - 1)], self.path[max(i - 8, 0)]
        return np.array([*xy, np.arctan2(*(ahead - behind)[::-1])])


def ego_pose(drive: Drive, hills: Hills, seconds: float) -> np.ndarray:
    """plan_from_ego (4, 4) float64: on the ground, tilted with it."""
    x, y, yaw = drive.position(seconds)
    slope = hills.slope(x, y)
    up = np.array([-slope[0], -slope[1], 1.0])
    up /= np.linalg.norm(up)
    forward = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    forward -= (forward @ up) * up
    forward /= np.linalg.norm(forward)
    return pose(np.stack([forward, np.cross(up, forward), up], 1), (x, y, float(hills.height(x, y))))


def _lane(road: Road, heading: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A point and the direction of a road's inner lane for traffic along ``heading``."""
    right = np.array([heading[1], -heading[0]])
    middle = np.array([0.0, road.centre_m]) if road.axis == "x" else np.array([road.centre_m, 0.0])
    return middle + right * road.lanes_m[0], heading


def _meet(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Point where two lanes cross."""
    s = np.linalg.solve(np.stack([a[1], -b[1]], 1), b[0] - a[0])
    return a[0] + s[0] * a[1]


def _arc(corner: np.ndarray, before: np.ndarray, after: np.ndarray, radius_m: float) -> np.ndarray:
    """Quarter circle that rounds a right-angled corner, ends included."""
    centre = corner + radius_m * (after - before)
    angle = np.linspace(0, np.pi / 2, int(radius_m * np.pi / 2 / STEP_M) + 2)[:, None]
    return centre - radius_m * after * np.cos(angle) + radius_m * before * np.sin(angle)


def make_drive(plan: Plan, seed: int, scene: str, turn: bool) -> Drive:
    """A drive up one street and into another; the crossing is a few metres ahead with ``turn``, else far.

    Args:
        plan: the town.
        seed: seed of the world.
        scene: name of the scene.
        turn: whether the drive starts a few metres before a crossing and turns there.
    """
    rng = numpy_rng(seed, "drive", scene)
    xs, ys = ([r for r in plan.roads if r.axis == axis] for axis in "yx")
    column, row = int(rng.integers(len(xs))), int(rng.integers(len(ys)))
    first, second = xs[column], ys[row]
    heading = np.array([0.0, 1.0 if row >= len(ys) / 2 else -1.0])
    side = np.array([1.0 if column < len(xs) / 2 else -1.0, 0.0])
    left = bool(heading[0] * side[1] - heading[1] * side[0] > 0)
    lanes = _lane(first, heading), _lane(second, side)
    corner = _meet(*lanes)
    arc = _arc(corner, heading, side, RADIUS_M["left" if left else "right"])
    run_up = rng.uniform(14, 24) if turn else rng.uniform(60, 75)
    way_in = _straight(arc[0] - heading * run_up, arc[0])
    end = np.where(side > 0.5, plan.size_m, np.where(side < -0.5, 0.0, arc[-1]))
    path = np.concatenate([way_in, arc[:-1], _straight(arc[-1], end)])
    return Drive(path, float(rng.uniform(4.0, 6.5)), float(rng.uniform(0.3, 1.0)))


def _straight(start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Points every ``STEP_M`` from ``start`` to before ``stop``."""
    length = float(np.linalg.norm(stop - start))
    return start + (stop - start) * (np.arange(0, length, STEP_M) / length)[:, None]
