"""What a memory bank is worth, before anything is trained with it.

*Coverage*: share of the current scan's points that have a target. *Depth*: mean number of references per target.
*Purity*: share of (point, reference) pairs in which the true class of what the reference sees is the class of the
point it teaches, once by the labels of the points behind a reference and, where a world knows it, once by the class
of the pixel itself. Everything is counted by age, so one bank answers for every window up to its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lima_core.stores.memory_bank import FrameBank
from lima_core.types import IGNORE


@dataclass
class Quality:
    """Counts by age in key frames, each (frames,) int64; add them up over frames and scenes."""

    num_points: int
    taught_points: np.ndarray
    """Points whose youngest reference has this age."""
    targets: np.ndarray
    """Targets whose youngest reference has this age."""
    references: np.ndarray
    judged: dict[str, np.ndarray]
    """``points`` and ``pixels``: pairs in which both classes are known, by age of the reference."""
    pure: dict[str, np.ndarray]

    @classmethod
    def empty(cls, frames: int) -> "Quality":
        """Nothing counted yet, for a window of ``frames``."""

        def zero() -> np.ndarray:
            return np.zeros(frames, dtype=np.int64)

        def by_truth() -> dict[str, np.ndarray]:
            return {"points": zero(), "pixels": zero()}

        return cls(0, zero(), zero(), zero(), by_truth(), by_truth())

    def count(self, bank: FrameBank, point_class: np.ndarray | None, truths: dict[str, np.ndarray]) -> None:
        """Adds one frame.

        Args:
            bank: of the frame.
            point_class: (N,) uint8 true class of the frame's points, or None.
            truths: by kind of truth, the (R,) uint8 true class of what each reference sees.
        """
        frames = len(self.references)
        self.num_points += len(bank.point_target)
        self.references += np.bincount(bank.age, minlength=frames)
        if len(bank.age):
            first = np.concatenate([[0], np.cumsum(bank.num_references.astype(np.int64))[:-1]])
            youngest = bank.age[first]
            self.targets += np.bincount(youngest, minlength=frames)
            taught = bank.point_target[bank.point_target >= 0]
            self.taught_points += np.bincount(youngest[taught], minlength=frames)
        if point_class is not None:
            for kind, truth in truths.items():
                if (truth == IGNORE).all():
                    continue
                judged, pure = count_pure_pairs(bank, point_class, truth)
                self.judged[kind] += np.bincount(bank.age, weights=judged, minlength=frames).astype(np.int64)
                self.pure[kind] += np.bincount(bank.age, weights=pure, minlength=frames).astype(np.int64)

    def to_json(self) -> dict:
        """Plain lists, for an artifact's attributes."""
        lists = {name: getattr(self, name).tolist() for name in ("taught_points", "targets", "references")}
        truths = {name: {k: v.tolist() for k, v in getattr(self, name).items()} for name in ("judged", "pure")}
        return {"num_points": self.num_points, **lists, **truths}

    @classmethod
    def from_json(cls, value: dict) -> "Quality":
        """The inverse of ``to_json``."""
        arrays = {name: np.array(value[name], dtype=np.int64) for name in ("taught_points", "targets", "references")}
        truths = {name: {k: np.array(v, dtype=np.int64) for k, v in value[name].items()} for name in ("judged", "pure")}
        return cls(num_points=value["num_points"], **arrays, **truths)

    @classmethod
    def total(cls, parts: Sequence["Quality"], frames: int) -> "Quality":
        """Sum over scenes."""
        result = cls.empty(frames)
        for part in parts:
            result.num_points += part.num_points
            for name in ("taught_points", "targets", "references"):
                getattr(result, name).__iadd__(getattr(part, name))
            for kind in result.judged:
                result.judged[kind] += part.judged[kind]
                result.pure[kind] += part.pure[kind]
        return result

    def coverage(self, frames: int) -> float:
        """Share of points with a target in a window of ``frames``."""
        return _ratio(self.taught_points[:frames].sum(), self.num_points)

    def depth(self, frames: int) -> float:
        """Mean number of references per target in a window of ``frames``."""
        return _ratio(self.references[:frames].sum(), self.targets[:frames].sum())

    def purity(self, frames: int, truth: str = "points") -> float | None:
        """Share of pairs of the same class in a window of ``frames``; None without labels."""
        judged = self.judged[truth][:frames].sum()
        return _ratio(self.pure[truth][:frames].sum(), judged) if judged else None

    def by_window(self) -> list[dict[str, float | int | None]]:
        """One row per window length: frames, coverage, depth, purity by points and by pixels."""
        return [
            {
                "frames": frames,
                "coverage": self.coverage(frames),
                "depth": self.depth(frames),
                "purity_points": self.purity(frames, "points"),
                "purity_pixels": self.purity(frames, "pixels"),
            }
            for frames in range(1, len(self.references) + 1)
        ]


def _ratio(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0


def count_pure_pairs(bank: FrameBank, point_class: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Judged and pure (point, reference) pairs of every reference, (R,) int64 each.

    A pair is a reference and a point of its target; it is judged where both classes are known.
    """
    taught = (bank.point_target >= 0) & (point_class != IGNORE)
    num_classes = int(max(point_class[taught].max(initial=0), truth[truth != IGNORE].max(initial=0))) + 1
    cell = bank.point_target[taught].astype(np.int64) * num_classes + point_class[taught]
    votes = np.bincount(cell, minlength=len(bank.num_references) * num_classes).reshape(-1, num_classes)
    known = truth != IGNORE
    target = bank.target_of_reference
    judged = np.where(known, votes.sum(axis=1)[target], 0)
    pure = np.where(known, votes[target, np.where(known, truth, 0)], 0)
    return judged, pure
