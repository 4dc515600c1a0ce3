"""A few frames of a data set, as an index of its own: what a calibration runs the stages on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lima_core.cost import Sample
from lima_core.stores.frame_index import FrameIndex
from lima_core.types import Frame


def write_sample(index: Path, out: Path, sample: Sample) -> None:
    """Writes an index of runs of consecutive frames: of evenly spaced train scenes, and of one val scene."""
    whole = FrameIndex.open(index)
    chosen = [(scene, "train") for scene in evenly(whole.scenes("train"), sample.scenes)]
    chosen += [(scene, "val") for scene in evenly(whole.scenes("val"), 1)]
    frames: list[Frame] = []
    for scene, split in chosen:
        # A scene that is split in time is chosen for both; stores name their parts by scene.
        name = scene if all(frame.scene != scene for frame in frames) else f"{scene}-{split}"
        frames += [replace(frame, scene=name) for frame in middle(whole.frames(scene, split), sample.frames)]
    FrameIndex.write(out, frames, whole.facts, whole.dataset)


def middle(frames: Sequence[Frame], count: int) -> list[Frame]:
    """``count`` consecutive frames from the middle, numbered from 0: the ego often stands at the start."""
    start = max(0, (len(frames) - count) // 2)
    return [replace(frame, index=i) for i, frame in enumerate(frames[start : start + count])]


def evenly(names: Sequence[str], count: int) -> list[str]:
    """At most ``count`` of ``names``, spread over all of them."""
    count = min(count, len(names))
    return [names[(2 * i + 1) * len(names) // (2 * count)] for i in range(count)]
