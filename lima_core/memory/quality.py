"""What a memory bank is worth, before anything is trained with it.

*Coverage*: share of the current scan's points that have a target. *Depth*: mean number of references per target.
*Purity*: share of (point, reference) pairs in which the true class of what the reference sees is the class of the
point it teaches, once by the labels of the points behind a reference and, where a world knows it, once by the class
of the pixel itself; the sky is no point's class. Everything is counted by age, so one bank answers for every window
up to its own, and by group of the points taught: static or moving where a world knows it, and by range.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from lima_core.stores.memory_bank import FrameBank
from lima_core.types import IGNORE

ALL = "all"
TRUTHS = ("points", "pixels")
RANGES_M = {"0-10 m": (0, 10), "10-20 m": (10, 20), "20-40 m": (20, 40), "over 40 m": (40, np.inf)}


@dataclass(frozen=True)
class PointTruth:
    """What is known about the points of a scan."""

    xyz_lidar: np.ndarray
    """(N, 3) metres."""
    point_class: np.ndarray | None = None
    """(N,) uint8 true class, or None."""
    moving: np.ndarray | None = None
    """(N,) bool, or None."""

    def groups(self) -> dict[str, np.ndarray]:
        """(N,) bool by group."""
        range_m = np.linalg.norm(self.xyz_lidar, axis=1)
        groups = {ALL: np.ones(len(range_m), dtype=bool)}
        if self.moving is not None:
            groups |= {"static": ~self.moving, "moving": self.moving}
        return groups | {name: (range_m >= low) & (range_m < high) for name, (low, high) in RANGES_M.items()}


@dataclass
class Counts:
    """Of the points of one group; lists are by age in key frames."""

    num_points: int
    taught_points: np.ndarray
    """(frames,) int64, points whose youngest reference has this age."""
    judged: dict[str, np.ndarray]
    """By truth, pairs in which both classes are known, by age of the reference."""
    pure: dict[str, np.ndarray]

    @classmethod
    def empty(cls, frames: int) -> "Counts":
        """Nothing counted yet."""
        zeros = {truth: np.zeros(frames, dtype=np.int64) for truth in TRUTHS}
        return cls(0, np.zeros(frames, dtype=np.int64), zeros, {truth: zero.copy() for truth, zero in zeros.items()})

    def add(self, other: "Counts") -> None:
        """Adds the counts of other points."""
        self.num_points += other.num_points
        self.taught_points = self.taught_points + other.taught_points
        for truth in TRUTHS:
            self.judged[truth] = self.judged[truth] + other.judged[truth]
            self.pure[truth] = self.pure[truth] + other.pure[truth]


@dataclass
class Quality:
    """Counts of a bank; add them up over frames and scenes."""

    frames: int
    targets: np.ndarray
    """(frames,) int64, targets whose youngest reference has this age."""
    references: np.ndarray
    """(frames,) int64 by age."""
    groups: dict[str, Counts] = field(default_factory=dict)

    @classmethod
    def empty(cls, frames: int) -> "Quality":
        """Nothing counted yet, for a window of ``frames``."""
        return cls(frames, np.zeros(frames, np.int64), np.zeros(frames, np.int64), {ALL: Counts.empty(frames)})

    def count(self, bank: FrameBank, points: PointTruth, truths: dict[str, np.ndarray]) -> None:
        """Adds one frame.

        Args:
            bank: of the frame.
            points: what is known about the frame's points.
            truths: by kind of truth, the (R,) uint8 true class of what each reference sees.
        """
        self.references += np.bincount(bank.age, minlength=self.frames)
        first = bank.num_references.astype(np.int64).cumsum() - bank.num_references
        youngest = bank.age[first]
        self.targets += np.bincount(youngest, minlength=self.frames)
        taught = bank.point_target >= 0
        age_of_taught = youngest[bank.point_target[taught]]
        judgements = judge(bank, points.point_class, truths)
        for name, members in points.groups().items():
            counts = Counts.empty(self.frames)
            counts.num_points = int(members.sum())
            counts.taught_points += np.bincount(age_of_taught[members[taught]], minlength=self.frames)
            for truth, (point, age, pure) in judgements.items():
                inside = members[point]
                counts.judged[truth] += np.bincount(age[inside], minlength=self.frames)
                counts.pure[truth] += np.bincount(age[inside & pure], minlength=self.frames)
            self.groups.setdefault(name, Counts.empty(self.frames)).add(counts)

    def to_json(self) -> dict:
        """Plain lists, for an artifact's attributes."""
        return _plain(asdict(self))

    @classmethod
    def from_json(cls, value: dict) -> "Quality":
        """The inverse of ``to_json``."""
        arrays = {name: np.array(value[name], dtype=np.int64) for name in ("targets", "references")}
        return cls(value["frames"], **arrays, groups={k: _counts(v) for k, v in value["groups"].items()})

    @classmethod
    def total(cls, parts: Sequence["Quality"], frames: int) -> "Quality":
        """Sum over scenes."""
        result = cls.empty(frames)
        for part in parts:
            result.targets += part.targets
            result.references += part.references
            for name, counts in part.groups.items():
                result.groups.setdefault(name, Counts.empty(frames)).add(counts)
        return result

    def coverage(self, frames: int, group: str = ALL) -> float:
        """Share of the group's points with a target in a window of ``frames``."""
        counts = self.groups[group]
        return _ratio(counts.taught_points[:frames].sum(), counts.num_points)

    def depth(self, frames: int) -> float:
        """Mean number of references per target in a window of ``frames``."""
        return _ratio(self.references[:frames].sum(), self.targets[:frames].sum())

    def purity(self, frames: int, truth: str = "points", group: str = ALL) -> float | None:
        """Share of pairs of the same class in a window of ``frames``; None where nothing is known."""
        counts = self.groups[group]
        judged = counts.judged[truth][:frames].sum()
        return _ratio(counts.pure[truth][:frames].sum(), judged) if judged else None

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
            for frames in range(1, self.frames + 1)
        ]

    def by_group(self, frames: int) -> list[dict[str, str | float | None]]:
        """One row per group of points that was found, at a window of ``frames``."""
        return [
            {
                "points": name,
                "share": _ratio(counts.num_points, self.groups[ALL].num_points),
                "coverage": self.coverage(frames, name),
                "purity_points": self.purity(frames, "points", name),
                "purity_pixels": self.purity(frames, "pixels", name),
            }
            for name, counts in self.groups.items()
            if counts.num_points
        ]


def judge(
    bank: FrameBank, point_class: np.ndarray | None, truths: dict[str, np.ndarray]
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """By kind of truth, all pairs of a point and a reference of its target in which both classes are known.

    Returns:
        Point (P,) int64, age of the reference (P,) uint8, whether the classes are the same (P,) bool.
    """
    if point_class is None:
        return {}
    point = np.nonzero((bank.point_target >= 0) & (point_class != IGNORE))[0]
    target = bank.point_target[point]
    length = bank.num_references[target].astype(np.int64)
    first = (bank.num_references.astype(np.int64).cumsum() - bank.num_references)[target]
    within = np.arange(length.sum()) - np.repeat(length.cumsum() - length, length)
    point, reference = np.repeat(point, length), np.repeat(first, length) + within
    judgements = {}
    for kind, truth in truths.items():
        seen = truth[reference]
        known = seen != IGNORE
        judgements[kind] = point[known], bank.age[reference[known]], (seen == point_class[point])[known]
    return judgements


def _ratio(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0


def _counts(value: dict) -> Counts:
    by_truth = {name: {k: np.array(v, dtype=np.int64) for k, v in value[name].items()} for name in ("judged", "pure")}
    return Counts(value["num_points"], np.array(value["taught_points"], dtype=np.int64), **by_truth)


def _plain(value: object) -> object:
    """Arrays as lists."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value
