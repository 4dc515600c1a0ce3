"""What the occlusion test gets right, where a world knows the depth of every pixel.

A point that falls in an image is *hidden* if it lies deeper than its pixel's surface by more than 3 % and 0.2 m,
*in front* if nearer by more than that (another surface shows; a scan takes longer than an image), else *visible*.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from lima_core.datasets.adapter import Dataset
from lima_core.errors import DataError
from lima_core.geometry.camera import Projection, project
from lima_core.memory.occlusion import OcclusionConfig, visible_unless_hidden
from lima_core.memory.quality import PointTruth
from lima_core.types import Camera, Frame

MARGIN_SHARE, MARGIN_M = 0.03, 0.2
STATES = ("hidden", "visible", "in_front")


@dataclass
class Verdicts:
    """Points of one group in images, by their true state: how many, and how many the test calls hidden."""

    num_points: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATES, 0))
    rejected: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATES, 0))

    def row(self) -> dict[str, float | int | None]:
        """Shares; None where there is nothing to judge."""
        kept = {state: self.num_points[state] - self.rejected[state] for state in STATES}
        total, kept_total = sum(self.num_points.values()), sum(kept.values())
        return {
            "points_in_images": total,
            "hidden": _ratio(self.num_points["hidden"], total),
            "hidden_found": _ratio(self.rejected["hidden"], self.num_points["hidden"]),
            "visible_lost": _ratio(self.rejected["visible"], self.num_points["visible"]),
            "in_front_lost": _ratio(self.rejected["in_front"], self.num_points["in_front"]),
            "hidden_among_kept": _ratio(kept["hidden"], kept_total),
        }


def judge_frame(
    dataset: Dataset, root: Path, frame: Frame, configs: dict[str, OcclusionConfig | None]
) -> dict[str, dict[str, Verdicts]]:
    """Verdicts of every config by group of points; None tests nothing.

    Args:
        dataset: reads the scan.
        root: its folder, with ``truth/`` in it.
        frame: one key frame.
        configs: by name.
    """
    xyz = dataset.load_points(frame)[:, :3]
    groups = PointTruth(xyz, moving=dataset.load_moving(frame)).groups()
    projection = project(frame, xyz)
    states = true_states(root, frame, projection)
    judged = {}
    for name, config in configs.items():
        kept = projection if config is None else visible_unless_hidden(frame, projection, xyz, config)
        judged[name] = {group: _count(states, kept.visible, members) for group, members in groups.items()}
    return judged


def true_states(root: Path, frame: Frame, projection: Projection) -> dict[str, np.ndarray]:
    """(C, N) bool by state: the points that fall in each image and are in that state there."""
    states = {state: np.zeros_like(projection.visible) for state in STATES}
    for slot, camera in enumerate(frame.cameras):
        if camera is not None:
            surface_m = load_depth_m(root, camera)
            points = np.nonzero(projection.visible[slot])[0]
            column, row = np.rint(projection.uv_px[slot, points]).astype(np.int64).T
            surface_m, depth_m = surface_m[row, column], projection.depth_m[slot, points]
            hidden = depth_m > surface_m * (1 + MARGIN_SHARE) + MARGIN_M
            in_front = depth_m < surface_m * (1 - MARGIN_SHARE) - MARGIN_M
            for state, members in zip(STATES, (hidden, ~hidden & ~in_front, in_front), strict=True):
                states[state][slot, points] = members
    return states


def load_depth_m(root: Path, camera: Camera) -> np.ndarray:
    """(H, W) float64 depth along the optical axis of what each pixel shows; inf where that is the sky.

    Raises:
        DataError: the world has no depth for this image.
    """
    path = root / "truth" / camera.name / f"{Path(camera.image).stem}_depth.png"
    try:
        with Image.open(path) as image:
            depth_cm = np.array(image)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=path) from error
    if depth_cm.shape != (camera.height_px, camera.width_px):
        raise DataError(f"expected {camera.height_px}x{camera.width_px}, got {depth_cm.shape}", where=path)
    return np.where(depth_cm == 0, np.inf, depth_cm / 100)


def add(total: dict[str, dict[str, Verdicts]], frame: dict[str, dict[str, Verdicts]]) -> None:
    """Adds the verdicts of another frame."""
    for name, groups in frame.items():
        for group, verdicts in groups.items():
            into = total.setdefault(name, {}).setdefault(group, Verdicts())
            for state in STATES:
                into.num_points[state] += verdicts.num_points[state]
                into.rejected[state] += verdicts.rejected[state]


def _count(states: dict[str, np.ndarray], kept: np.ndarray, members: np.ndarray) -> Verdicts:
    verdicts = Verdicts()
    for state, cells in states.items():
        verdicts.num_points[state] = int(cells[:, members].sum())
        verdicts.rejected[state] = int((cells & ~kept)[:, members].sum())
    return verdicts


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 5) if whole else None
