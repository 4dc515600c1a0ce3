"""Long-term propagation (LiMA, section 4.2): entries of the last frames teach the points of the current one.

Voxels are fixed in the scene, so a stored entry is never moved. A new frame pushes its entries, the oldest frame's
leave (first in, first out), and the bank of a frame is a join of the window with the voxels that its own scan
occupies. The cost of a step grows with the entries in the window only, not with cameras, images or features.
"""

from collections import deque
from collections.abc import Iterable

import numpy as np

from lima_core.errors import ConfigError
from lima_core.memory.cross_view import Entries
from lima_core.stores.memory_bank import FrameBank


class Window:
    """The entries of the last ``frames`` key frames, the current one among them."""

    def __init__(self, frames: int) -> None:
        self._entries: deque[Entries] = deque(maxlen=frames)

    def push(self, entries: Entries) -> None:
        """Adds the current frame's entries; the oldest frame's leave once the window is full."""
        self._entries.appendleft(entries)

    def recall(self, voxel: np.ndarray) -> tuple[FrameBank, dict[str, np.ndarray]]:
        """All references of the window in the voxels of the current scan.

        Args:
            voxel: (N,) int64 scene voxel key of each point of the current scan.

        Returns:
            The bank of the current frame, and by kind of truth the (R,) uint8 true class of each of its references.
        """
        occupied, occupied_of_point = np.unique(voxel, return_inverse=True)
        found = [_inside(entries, occupied) for entries in self._entries]
        target = np.concatenate([place for _, place in found])
        age = np.repeat(np.arange(len(found), dtype=np.uint8), [len(place) for _, place in found])
        order = np.argsort(target, kind="stable")
        taught, length = np.unique(target, return_counts=True)
        _check_counts(int(length.max(initial=0)))
        target_of_occupied = np.full(len(occupied), -1, dtype=np.int32)
        target_of_occupied[taught] = np.arange(len(taught), dtype=np.int32)

        def gather(columns: Iterable[np.ndarray]) -> np.ndarray:
            parts = [column[keep] for column, (keep, _) in zip(columns, found, strict=True)]
            return np.concatenate(parts)[order]

        bank = FrameBank(
            point_target=target_of_occupied[occupied_of_point],
            num_references=length.astype(np.uint16),
            age=age[order],
            camera=gather(e.camera for e in self._entries),
            u=gather(e.u for e in self._entries),
            v=gather(e.v for e in self._entries),
            num_points=gather(e.num_points for e in self._entries),
        )
        return bank, {kind: gather(e.truth[kind] for e in self._entries) for kind in self._entries[0].truth}


def _check_counts(most: int) -> None:
    if most > np.iinfo(np.uint16).max:
        raise ConfigError(
            f"a voxel holds {most} references, a bank counts up to {np.iinfo(np.uint16).max}",
            where="build_memory",
            remedy="use smaller voxels, fewer frames, or references: merged",
        )


def _inside(entries: Entries, occupied: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which entries lie in an occupied voxel, (K,) rows; and in which, (K,) position in the sorted ``occupied``."""
    if not len(occupied):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    place = np.minimum(np.searchsorted(occupied, entries.voxel), len(occupied) - 1)
    keep = np.nonzero(occupied[place] == entries.voxel)[0]
    return keep, place[keep]
