"""Long-term propagation (LiMA, section 4.2): entries of the last frames teach the points of the current one.

Voxels are fixed in the scene, so a stored entry is never moved. A new frame pushes its entries, the oldest frame's
leave (first in, first out), and the bank of a frame is a join of the window with the voxels that its own scan
occupies; these may be coarser than the stored ones, which they hold. The cost of a step grows with the entries in the
window only, not with cameras, images or features.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np

from lima_core.errors import ConfigError
from lima_core.memory.cross_view import Entries
from lima_core.memory.voxel_keys import CAMERA_BITS, KEY_BITS, coarser
from lima_core.stores.memory_bank import FrameBank

AGE_BITS = 8
Found = tuple[np.ndarray, np.ndarray]
"""Rows of entries that lie in an occupied voxel, and the position of that voxel."""


class Window:
    """The entries of the last ``frames`` key frames, the current one among them."""

    def __init__(self, frames: int) -> None:
        self._entries: deque[Entries] = deque(maxlen=frames)

    def forget(self, voxels: np.ndarray) -> None:
        """Drops all entries in the voxels (V,), sorted keys: what was seen there no longer is."""
        for position, entries in enumerate(self._entries):
            self._entries[position] = entries.without(voxels)

    def push(self, entries: Entries) -> None:
        """Adds the current frame's entries; the oldest frame's leave once the window is full."""
        self._entries.appendleft(entries)

    def recall(self, voxel: np.ndarray, level: np.ndarray | None = None) -> tuple[FrameBank, dict[str, np.ndarray]]:
        """All references of the window in the voxels of the current scan.

        Args:
            voxel: (N,) int64 scene voxel key of each point of the current scan.
            level: (N,) int64 how often the edge of each point's voxel is doubled; None: never.

        Returns:
            The bank of the current frame, and by kind of truth the (R,) uint8 true class of each of its references.
        """
        level = np.zeros(len(voxel), dtype=np.int64) if level is None else level
        occupied, occupied_of_point = np.unique(_pooling_keys(voxel, level), return_inverse=True)
        found = [_inside(entries, occupied, np.unique(level)) for entries in self._entries]
        place = np.concatenate([place for _, place in found])
        age = np.repeat(np.arange(len(found), dtype=np.uint8), [len(place) for _, place in found])
        camera = self._gather("camera", found)
        order = np.argsort(((place << AGE_BITS | age) << CAMERA_BITS) | camera, kind="stable")
        taught, length = np.unique(place, return_counts=True)
        _check_counts(int(length.max(initial=0)))
        target_of_occupied = np.full(len(occupied), -1, dtype=np.int32)
        target_of_occupied[taught] = np.arange(len(taught), dtype=np.int32)
        bank = FrameBank(
            point_target=target_of_occupied[occupied_of_point],
            num_references=length.astype(np.uint16),
            age=age[order],
            camera=camera[order],
            **{name: self._gather(name, found)[order] for name in ("u", "v")},
        )
        kinds = self._entries[0].truth
        truth = {kind: [entries.truth[kind] for entries in self._entries] for kind in kinds}
        return bank, {kind: _join(columns, found)[order] for kind, columns in truth.items()}

    def youngest(self, voxel: np.ndarray, level: np.ndarray) -> np.ndarray:
        """(N,) int64 age of the youngest reference in the voxel of each point; the window's length where none is."""
        occupied, occupied_of_point = np.unique(_pooling_keys(voxel, level), return_inverse=True)
        youngest = np.full(len(occupied), len(self._entries))
        for age in reversed(range(len(self._entries))):
            youngest[_inside(self._entries[age], occupied, np.unique(level))[1]] = age
        return youngest[occupied_of_point]

    def _gather(self, name: str, found: Sequence[Found]) -> np.ndarray:
        return _join([getattr(entries, name) for entries in self._entries], found)


def fallback_levels(window: Window, voxel: np.ndarray, level: np.ndarray, doublings: int) -> np.ndarray:
    """(N,) int64 levels at which points are pooled that no reference shares a voxel with: coarser ones.

    The level of a point is the finest whose youngest reference is as young as that of the coarsest allowed. So it does
    not depend on the window's length, and a long bank still is every shorter one.

    Args:
        window: with the current frame's entries.
        voxel: (N,) int64 keys of the current scan.
        level: (N,) int64 the finest levels.
        doublings: how much coarser a voxel may get.
    """
    youngest = np.stack([window.youngest(voxel, level + more) for more in range(doublings + 1)])
    return level + (youngest == youngest[-1]).argmax(axis=0)


def _check_counts(most: int) -> None:
    if most > np.iinfo(np.uint16).max:
        raise ConfigError(
            f"a voxel holds {most} references, a bank counts up to {np.iinfo(np.uint16).max}",
            where="build_memory",
            remedy="use smaller voxels, fewer frames, or references: merged",
        )


def _pooling_keys(voxel: np.ndarray, level: np.ndarray) -> np.ndarray:
    """(N,) int64 keys of voxels of several levels, sorted by level first."""
    keys = np.empty_like(voxel)
    for present in np.unique(level):
        rows = level == present
        keys[rows] = coarser(voxel[rows], present) | present << KEY_BITS
    return keys


def _inside(entries: Entries, occupied: np.ndarray, levels: np.ndarray) -> Found:
    """Which entries lie in an occupied voxel, (K,) rows; and in which, (K,) position in the sorted ``occupied``."""
    rows, places = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for level in levels.tolist():
        start, stop = np.searchsorted(occupied, [level << KEY_BITS, (level + 1) << KEY_BITS])
        keys, row_of_key = entries.at_level(level)
        wanted = occupied[start:stop] - (level << KEY_BITS)
        first, last = (np.searchsorted(keys, wanted, side) for side in ("left", "right"))
        length = last - first
        within = np.arange(length.sum()) - np.repeat(length.cumsum() - length, length)
        rows.append(row_of_key[np.repeat(first, length) + within])
        places.append(np.repeat(np.arange(start, stop), length))
    return np.concatenate(rows), np.concatenate(places)


def _join(columns: Sequence[np.ndarray], found: Sequence[Found]) -> np.ndarray:
    return np.concatenate([column[rows] for column, (rows, _) in zip(columns, found, strict=True)])
