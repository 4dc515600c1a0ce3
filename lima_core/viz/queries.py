"""Which points are asked what they are like: one per class, well inside its object, or spread over the view."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

PREFERRED = ("car", "driveable_surface", "road", "vegetation", "pedestrian", "manmade", "building", "sidewalk")
"""Classes that are asked first, in this order, as far as they are seen; then the others, the largest first."""

MIN_RADIUS = 0.012
"""Of the free circle around a query, as a share of the image width: a smaller object is not seen in a figure."""

NEIGHBOURS, NEIGHBOURHOOD = 5, 0.02
"""A query has so many points of its class within this share of the image width: no stray point is asked."""

CELL = 0.05
"""Edge of the cells in which places without points are looked for, as a share of the image width."""


@dataclass(frozen=True)
class Query:
    """A LiDAR point whose feature is compared with all others."""

    name: str
    """Its class, or its number where classes are not known."""
    camera: int
    """In which it is seen."""
    point: int


@dataclass(frozen=True)
class Seen:
    """Where the points of a scan appear, and which of them may be asked."""

    uv_px: np.ndarray
    """(C, N, 2)."""
    visible: np.ndarray
    """(C, N) bool."""
    usable: np.ndarray
    """(N,) bool: taught, for a query is compared in the bank too."""
    size_px: Sequence[tuple[int, int]]
    """Width and height of every camera's image; ones for a missing one."""
    front: int
    """The camera that is preferred."""


def class_queries(labels: np.ndarray, classes: Sequence[str], seen: Seen, count: int) -> list[Query]:
    """Up to ``count`` queries of different classes.

    Each in the front camera if its class is large enough there, else in the camera in which it is largest. Of the
    points of the class the one in the middle of its largest object is chosen: farthest from all points of other
    classes, from places without points (the sky) and from the border of the image.
    """
    queries = []
    for number in _order(labels, classes, seen):
        found = [_innermost(labels == number, camera, seen) for camera in range(len(seen.visible))]
        camera = seen.front if found[seen.front][0] >= MIN_RADIUS else int(np.argmax([share for share, _ in found]))
        if found[camera][0] >= MIN_RADIUS:
            queries.append(Query(classes[number], camera, found[camera][1]))
        if len(queries) == count:
            break
    return queries


def _order(labels: np.ndarray, classes: Sequence[str], seen: Seen) -> list[int]:
    sizes = [int((seen.visible & seen.usable & (labels == number)).sum()) for number in range(len(classes))]
    lower = [name.lower() for name in classes]
    named = [lower.index(name) for name in PREFERRED if name in lower]
    others = [int(number) for number in np.argsort(-np.array(sizes), kind="stable") if number not in named]
    return [number for number in (*named, *others) if sizes[number] >= NEIGHBOURS]


def _innermost(of_class: np.ndarray, camera: int, seen: Seen) -> tuple[float, int]:
    """Radius of the largest free circle around a point of the class, as a share of the width, and the point."""
    there, (width_px, height_px) = np.flatnonzero(seen.visible[camera]), seen.size_px[camera]
    uv_px, mine = seen.uv_px[camera, there], of_class[there]
    asked = np.flatnonzero(mine & seen.usable[there])
    if len(asked) < NEIGHBOURS:
        return 0.0, -1
    at_px = uv_px[asked]
    near_px = cKDTree(uv_px[mine]).query(at_px, k=NEIGHBOURS)[0][:, -1]
    others = np.concatenate([uv_px[~mine], empty_places(uv_px, (width_px, height_px))])
    other_px = cKDTree(others).query(at_px)[0] if len(others) else np.full(len(asked), np.inf)
    border_px = np.minimum(at_px, (width_px, height_px) - at_px).min(axis=1)
    free_px = np.where(near_px <= NEIGHBOURHOOD * width_px, np.minimum(other_px, border_px), 0.0)
    best = int(free_px.argmax())
    return float(free_px[best] / width_px), int(there[asked[best]])


def empty_places(uv_px: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    """(E, 2) centres of the cells of an image in which there is no point: the sky, where no object is."""
    cell_px = CELL * size_px[0]
    shape = (int(np.ceil(size_px[1] / cell_px)), int(np.ceil(size_px[0] / cell_px)))
    column, row = np.floor(uv_px / cell_px).astype(np.int64).T
    count = np.bincount(np.ravel_multi_index((row, column), shape, mode="clip"), minlength=shape[0] * shape[1])
    rows, columns = np.nonzero(count.reshape(shape) == 0)
    return (np.stack([columns, rows], axis=1) + 0.5) * cell_px


def spread_queries(xyz: np.ndarray, seen: Seen, count: int) -> list[Query]:
    """Up to ``count`` queries in the front camera, each as far as can be from those before it; the nearest first."""
    there = np.flatnonzero(seen.visible[seen.front] & seen.usable)
    if not len(there):
        return []
    chosen = [int(np.linalg.norm(xyz[there], axis=1).argmin())]
    away = np.full(len(there), np.inf)
    while len(chosen) < min(count, len(there)):
        # Directions and not positions: a figure shows the image, in which far points lie close together.
        step = seen.uv_px[seen.front, there] - seen.uv_px[seen.front, there[chosen[-1]]]
        away = np.minimum(away, np.linalg.norm(step, axis=1))
        chosen.append(int(away.argmax()))
    return [Query(f"point {number}", seen.front, int(there[row])) for number, row in enumerate(chosen, start=1)]
