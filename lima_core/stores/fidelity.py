"""How faithful decoded features are: cosines against the exact ones, summed up in bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lima_core.stores.codec import Codec, num_directions, token_cosines

LEAST_COSINE = 0.95
"""Below it, in the mean or at the 1st percentile, the codec is warned of."""
NUM_BINS = 65536


@dataclass(frozen=True)
class Fidelity:
    """Cosine of decoded features against the exact ones."""

    mean_cosine: float
    p1_cosine: float
    """1st percentile, to 0.00003; of a whole store, that of its worst scene."""
    num_tokens: int
    centred_mean_cosine: float | None = None
    """After taking the scene's mean token (that of its first frame with an image) from both: a large common part
    alone makes every cosine high. None in a store that was built before it was measured."""
    centred_p1_cosine: float | None = None


class CosineSketch:
    """Mean and percentiles of any number of cosines, in half a megabyte.

    A histogram of ANGLES, 0 to pi: a bin is 0.00005 of cosine at most, and far finer where cosines are close to 1.
    """

    def __init__(self) -> None:
        self.num, self.total, self.bins = 0, 0.0, np.zeros(NUM_BINS, np.int64)

    def add(self, cosines: np.ndarray) -> None:
        """Counts cosines (tokens,) float64."""
        angles = np.arccos(np.clip(cosines, -1, 1))
        places = np.minimum((angles * (NUM_BINS / np.pi)).astype(np.int64), NUM_BINS - 1)
        self.bins += np.bincount(places, minlength=NUM_BINS)
        self.num, self.total = self.num + len(cosines), self.total + float(cosines.sum())

    def mean(self) -> float:
        """Mean, exact; 1 where nothing was counted."""
        return self.total / self.num if self.num else 1.0

    def percentile(self, percent: float) -> float:
        """As ``np.percentile``, from the bins' centres; 1 where nothing was counted."""
        if not self.num:
            return 1.0
        position = (self.num - 1) * percent / 100
        lower = int(position)
        ranks = self.num - 1 - np.array([lower, min(lower + 1, self.num - 1)])  # the smallest cosine: the largest angle
        places = np.searchsorted(self.bins.cumsum(), ranks, side="right")
        low, high = np.cos((places + 0.5) * (np.pi / NUM_BINS))
        return float(low + (high - low) * (position - lower))


class FidelityMeter:
    """Compares the frames of one scene as they are written."""

    def __init__(self) -> None:
        self.plain, self.centred = CosineSketch(), CosineSketch()
        self.mean_token: np.ndarray | None = None

    def add(self, decoded: np.ndarray, exact: np.ndarray) -> None:
        """Counts the tokens (..., C) float32 of one frame, those with an image."""
        if not exact.size:
            return
        if self.mean_token is None:
            self.mean_token = exact.reshape(-1, exact.shape[-1]).mean(axis=0, dtype=np.float64)
        self.plain.add(token_cosines(decoded, exact))
        self.centred.add(token_cosines(decoded - self.mean_token, exact - self.mean_token))

    def result(self) -> Fidelity:
        """Of all tokens counted."""
        plain, centred = self.plain, self.centred
        return Fidelity(plain.mean(), plain.percentile(1), plain.num, centred.mean(), centred.percentile(1))


def whole_fidelity(scenes: Sequence[Fidelity]) -> Fidelity:
    """Means over all tokens, and the 1st percentiles of the worst scene."""
    parts = [scene for scene in scenes if scene.num_tokens] or [FidelityMeter().result()]
    tokens = [part.num_tokens for part in parts]
    measured = all(part.centred_mean_cosine is not None for part in parts)
    return Fidelity(
        mean_cosine=_mean([part.mean_cosine for part in parts], tokens),
        p1_cosine=min(part.p1_cosine for part in parts),
        num_tokens=sum(tokens),
        centred_mean_cosine=_mean([part.centred_mean_cosine for part in parts], tokens) if measured else None,
        centred_p1_cosine=min(part.centred_p1_cosine for part in parts) if measured else None,
    )


def _mean(values: Sequence[float], weights: Sequence[int]) -> float:
    total = sum(value * weight for value, weight in zip(values, weights, strict=True))
    return total / sum(weights) if any(weights) else 1.0


def fidelity_warning(codec: Codec, fidelity: Fidelity) -> str | None:
    """One line where the mean or the 1st percentile (not centred) is below LEAST_COSINE; else None."""
    if min(fidelity.mean_cosine, fidelity.p1_cosine) >= LEAST_COSINE:
        return None
    found = f"mean {fidelity.mean_cosine:.3f}, 1st percentile {fidelity.p1_cosine:.3f}"
    directions = num_directions(codec)
    remedy = f"choose pca<D> with D above {directions}, or int8" if directions else "look at the teacher's features"
    return f"codec {codec} bends the teacher's features: cosine {found}, below {LEAST_COSINE}; {remedy}"
