"""What a stage will cost, told before anything starts: the words in which a stage answers ``lima plan``.

A stage file may offer ``estimate(config, scale, resources) -> Cost``: a rule of thumb, whose *shape* (how costs grow
with frames, steps and points) serves to scale what was measured on a sample or by an earlier run. A stage that makes
raw data offers ``scale(config) -> Scale``; one whose work is decided by the configs of what it reads, too,
``reaching(scale, reads) -> Scale``, what of the data comes to it; one whose config says how much it does
``brief(config, sample)``, the same work in little; one that refuses a part of a data set ``rehearse``, which takes it,
in place of ``run``.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SceneScale:
    """Key frames of one scene, by split."""

    train: int = 0
    val: int = 0
    none: int = 0

    @property
    def num_frames(self) -> int:
        """Key frames of all splits."""
        return self.train + self.val + self.none

    def is_in(self, splits: Sequence[str]) -> bool:
        """Whether a key frame is in one of ``splits``."""
        return any(getattr(self, split) for split in splits)


@dataclass(frozen=True)
class Scale:
    """How much data an experiment reads."""

    scenes: tuple[SceneScale, ...]
    """In file order."""
    num_cameras: int
    num_points: int
    """LiDAR points of one scan, the mean."""
    image_size_px: tuple[int, int]
    """Height and width of one image on disk."""
    channels: int | None = None
    """Of the teacher's features, where a stage asked for them; None: not known."""

    @property
    def num_frames(self) -> int:
        """Key frames of all scenes."""
        return sum(scene.num_frames for scene in self.scenes)

    def frames_in(self, splits: Sequence[str]) -> int:
        """Key frames in one of ``splits``."""
        return sum(getattr(scene, split) for scene in self.scenes for split in splits)

    def lengths(self, splits: Sequence[str] = ("train", "val", "none")) -> list[int]:
        """All key frames of each scene that has one in ``splits``."""
        return [scene.num_frames for scene in self.scenes if scene.is_in(splits)]


@dataclass(frozen=True)
class Sample:
    """How much a calibration takes of everything."""

    scenes: int
    """Of the train split; one more of val."""
    frames: int
    """Of each scene."""
    steps: int
    """Of a training."""
    batch_size: int
    """At most, of a training."""

    @property
    def largest_batch(self) -> int:
        """Never more than there are training frames."""
        return min(self.batch_size, self.scenes * self.frames)


@dataclass(frozen=True)
class Cost:
    """What one artifact takes; None where nobody knows."""

    disk_bytes: int | None = None
    memory_bytes: int | None = None
    """Peak of main memory of all processes together, or of the GPU's where there is one."""
    seconds: float | None = None
    passing_bytes: int = 0
    """Disk that is needed only while it is built: the resume state of a training."""
    source: str = "rule of thumb"
    """Where the numbers come from."""


def longest(parts: Sequence[float], workers: int) -> float:
    """What the busiest worker does: parts go in order, each to whoever is free first."""
    loads = [0.0] * max(1, min(workers, len(parts)))
    for part in parts:
        loads[loads.index(min(loads))] += part
    return max(loads)


def size(num_bytes: float) -> str:
    """``1.2 GB``; decimal units, three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(num_bytes) < 999.5:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"
