"""Cross-view aggregation (LiMA, section 4.1): what all cameras of one frame see of a voxel is one unified entry.

An entry holds no feature, only where to find it: at most one reference per voxel, frame and camera, the mean image
position of the voxel's visible points. The references of one voxel and frame are averaged over its cameras when they
are pooled (``pooling.reference_weights``), so overlapping cameras never count a place twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from lima_core.errors import DataError
from lima_core.geometry.camera import Projection
from lima_core.memory.voxel_keys import CAMERA_BITS, coarser
from lima_core.types import IGNORE, Frame

References = Literal["merged", "points"]


@dataclass(frozen=True)
class Entries:
    """The references of one frame, sorted by voxel, then camera."""

    voxel: np.ndarray
    """(R,) int64 scene voxel key."""
    camera: np.ndarray
    """(R,) uint8, rig order."""
    u: np.ndarray
    """(R,) uint16 column, ``(u_px + 0.5) / width`` in units of 1 / 65535."""
    v: np.ndarray
    """(R,) uint16 row, likewise of the height."""
    truth: dict[str, np.ndarray]
    """(R,) uint8 true class of what the reference sees, IGNORE where unknown: ``points`` by the labels of the points
    behind it, ``pixels`` by the pixel itself. Purity is measured with it; it is never stored or taught."""
    _at_level: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, compare=False, repr=False)
    """Sorted once for every level, asked for by every frame of the window."""

    def at_level(self, level: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys of the voxels doubled ``level`` times that the references lie in, sorted, and their rows; (R,) each."""
        if level not in self._at_level:
            keys = coarser(self.voxel, level)
            rows = np.argsort(keys, kind="stable") if level else np.arange(len(keys))
            self._at_level[level] = keys[rows], rows
        return self._at_level[level]

    def without(self, voxels: np.ndarray) -> "Entries":
        """The entries outside the voxels (V,), sorted keys; costs a search per voxel, not per entry."""
        first, last = (np.searchsorted(self.voxel, voxels, side) for side in ("left", "right"))
        if (first == last).all():
            return self
        edges = np.zeros(len(self.voxel) + 1, dtype=np.int64)
        np.add.at(edges, first, 1)
        np.add.at(edges, last, -1)
        keep = edges.cumsum()[:-1] == 0
        columns = {name: getattr(self, name)[keep] for name in ("voxel", "camera", "u", "v")}
        return Entries(**columns, truth={kind: truth[keep] for kind, truth in self.truth.items()})


def aggregate(
    frame: Frame,
    projection: Projection,
    voxel: np.ndarray,
    references: References = "merged",
    point_class: np.ndarray | None = None,
    pixel_classes: Sequence[np.ndarray | None] = (),
) -> Entries:
    """Unified entries of one frame.

    Args:
        frame: gives the image sizes.
        projection: of the frame's own scan into its own cameras.
        voxel: (N,) int64 scene voxel key of each point.
        references: ``merged``: one per voxel and camera; ``points``: one per point and camera, exact and larger.
        point_class: (N,) uint8 true class of each point, where labels are known.
        pixel_classes: per camera the (H, W) uint8 true class of each pixel, where a world knows it.
    """
    if len(frame.cameras) > 1 << CAMERA_BITS:
        raise DataError(f"{len(frame.cameras)} cameras, a bank holds {1 << CAMERA_BITS}", where=f"scene {frame.scene}")
    camera, point = np.nonzero(projection.visible)
    key = (voxel[point] << CAMERA_BITS) | camera
    position = _image_fraction(frame, projection, camera, point)
    if references == "points":
        order = np.argsort(key, kind="stable")
        key, position, group = key[order], position[order], np.arange(len(order))
        point, count = point[order], np.ones(len(order), dtype=np.int64)
    else:
        key, group, count = np.unique(key, return_inverse=True, return_counts=True)
        position = _group_mean(position, group, count)
    camera = (key & ((1 << CAMERA_BITS) - 1)).astype(np.uint8)
    return Entries(
        voxel=key >> CAMERA_BITS,
        camera=camera,
        u=quantise(position[:, 0]),
        v=quantise(position[:, 1]),
        truth={
            "points": _majority(point_class, point, group, len(count)),
            "pixels": _at_pixels(pixel_classes, camera, position),
        },
    )


def quantise(fraction: np.ndarray) -> np.ndarray:
    """(R,) uint16 of a position in [0, 1]: a step is 0.024 px of an image 1600 px wide."""
    return np.round(np.clip(fraction, 0, 1) * 65535).astype(np.uint16)


def _image_fraction(frame: Frame, projection: Projection, camera: np.ndarray, point: np.ndarray) -> np.ndarray:
    """(R, 2) float64 position in the image as a fraction of its width and height, pixel centres at half steps."""
    size_px = np.array([[1, 1] if c is None else [c.width_px, c.height_px] for c in frame.cameras], dtype=np.float64)
    return (projection.uv_px[camera, point] + 0.5) / size_px[camera]


def _group_mean(values: np.ndarray, group: np.ndarray, count: np.ndarray) -> np.ndarray:
    """(G, 2) mean of (R, 2) values by group."""
    sums = [np.bincount(group, weights=column, minlength=len(count)) for column in values.T]
    return np.stack(sums, axis=1) / count[:, None]


def _majority(point_class: np.ndarray | None, point: np.ndarray, group: np.ndarray, num_groups: int) -> np.ndarray:
    """(G,) uint8 most frequent known class of each group's points; IGNORE where none is known."""
    if point_class is None or not len(point):
        return np.full(num_groups, IGNORE, dtype=np.uint8)
    seen = point_class[point]
    known = seen != IGNORE
    num_classes = int(seen[known].max()) + 1 if known.any() else 1
    votes = np.bincount(group[known] * num_classes + seen[known], minlength=num_groups * num_classes)
    votes = votes.reshape(num_groups, num_classes)
    return np.where(votes.any(axis=1), votes.argmax(axis=1), IGNORE).astype(np.uint8)


def _at_pixels(pixel_classes: Sequence[np.ndarray | None], camera: np.ndarray, position: np.ndarray) -> np.ndarray:
    """(R,) uint8 class of the pixel at each image position (R, 2); IGNORE where no truth is known."""
    truth = np.full(len(camera), IGNORE, dtype=np.uint8)
    for slot, classes in enumerate(pixel_classes):
        if classes is not None:
            height, width = classes.shape
            rows = np.nonzero(camera == slot)[0]
            column, row = np.floor(position[rows] * [width, height]).astype(np.int64).T
            truth[rows] = classes[row.clip(0, height - 1), column.clip(0, width - 1)]
    return truth
