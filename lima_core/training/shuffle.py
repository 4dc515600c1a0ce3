"""Orders of an epoch that a slow disk can follow.

A permutation of all samples lets each of them read its whole window from the disk, once the data set is larger than
main memory. In blocks, frames that lie behind each other stay near each other: neighbours share all but one frame of
their windows, so what one of them read is still in the page cache when the next one asks.
"""

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from lima_core.types import Config


class ShuffleBlocks(Config):
    """Blocks of consecutive frames, some of them mixed at a time."""

    frames: int = Field(16, ge=1)
    """Consecutive frames of a scene in a block; where blocks begin differs from epoch to epoch."""
    mixed: int = Field(64, ge=1)
    """Blocks whose samples are mixed; their features should fit into main memory together."""


def block_order(runs: Sequence[int], blocks: ShuffleBlocks, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Blocks in any order, and within ``mixed`` of them samples in any order.

    Args:
        runs: samples of each scene, in order.
        blocks: sizes.
        rng: draws everything.

    Returns:
        Permutation (num_samples,) int64; and for each sample (num_samples,) int64 which mixture it is in, from 0 on in
        the permutation's order.
    """
    scene = np.repeat(np.arange(len(runs)), runs)
    place = np.arange(len(scene)) - np.repeat(np.cumsum(runs) - runs, runs)
    in_scene = (place + rng.integers(blocks.frames, size=len(runs))[scene]) // blocks.frames
    begins = np.diff(scene, prepend=-1).astype(bool) | np.diff(in_scene, prepend=0).astype(bool)
    block = np.cumsum(begins) - 1
    rank = rng.permutation(block[-1] + 1)
    mixture = rank[block] // blocks.mixed
    return np.lexsort((rng.random(len(scene)), mixture)), mixture
