"""Two sets of scores seed by seed: what one gains over the other, and how sure the few seeds make us of it."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Paired:
    """Differences by seed, ours less theirs, of the seeds that both have; all numbers in the unit of the scores."""

    differences: Mapping[int, float]

    @property
    def num_seeds(self) -> int:
        """Seeds that both have."""
        return len(self.differences)

    @property
    def mean(self) -> float | None:
        """Mean difference; None without a common seed."""
        return statistics.fmean(self.differences.values()) if self.differences else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation of the differences; None below two seeds."""
        return sample_std(self.differences)

    @property
    def num_won(self) -> int:
        """Seeds in which ours is strictly higher."""
        return sum(value > 0 for value in self.differences.values())

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of the mean difference by Student's t; None where the spread is not known."""
        if not self.std:
            return None
        half = critical_t(self.num_seeds) * self.std / self.num_seeds**0.5
        return self.mean - half, self.mean + half

    @property
    def p_value(self) -> float | None:
        """Of the two-sided paired t test that there is no difference; None where the spread is not known.

        Differences that are all the same (an arm against itself) say nothing about how they scatter.
        """
        if not self.std:
            return None
        return float(2 * stats.t.sf(abs(self.mean) / (self.std / self.num_seeds**0.5), self.num_seeds - 1))


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Paired:
    """Compares two sets of scores by seed; a seed that one of them lacks is left out."""
    return Paired({seed: ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())})


def sample_std(by_seed: Mapping[int, float]) -> float | None:
    """Sample standard deviation (n - 1 below); None below two seeds."""
    return statistics.stdev(by_seed.values()) if len(by_seed) > 1 else None


def critical_t(num_seeds: int) -> float:
    """Half width of the confidence interval in standard errors: 12.7 for two seeds, 4.3 for three, 2.0 for many."""
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, num_seeds - 1))
