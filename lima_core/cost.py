"""What a stage will cost, estimated before anything starts: the words in which a stage answers ``lima plan``.

A stage file may offer ``estimate(config, scale) -> Cost``, and a stage that makes raw data ``scale(config) -> Scale``.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """How much data an experiment reads."""

    num_scenes: int
    num_frames: int
    """Key frames of all scenes."""
    num_cameras: int
    num_points: int
    """LiDAR points of one scan."""
    image_size_px: tuple[int, int]
    """Height and width of one image on disk."""


@dataclass(frozen=True)
class Cost:
    """What one artifact takes; None where the stage cannot know."""

    disk_bytes: int | None = None
    memory_bytes: int | None = None
    """Peak of main memory, or of the GPU's where there is one."""
    seconds: float | None = None
    """On one CPU core; replaced by what an earlier artifact of the same stage took per frame, where there is one."""


def size(num_bytes: float) -> str:
    """``1.2 GB``; decimal units, three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(num_bytes) < 999.5:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"
