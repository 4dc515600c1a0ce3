"""Two sets of scores seed by seed: what one gains over the other, and how sure the few seeds make us of it."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

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

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of the mean difference by Student's t; None where the spread is not known."""
        if not self._varies:
            return None
        low, high = self._test.confidence_interval(CONFIDENCE)
        return float(low), float(high)

    @property
    def p_value(self) -> float | None:
        """Of the two-sided paired t test that there is no difference; None where the spread is not known."""
        return float(self._test.pvalue) if self._varies else None

    @property
    def _varies(self) -> bool:
        """Differences that are all the same say nothing about how they scatter."""
        return len(set(self.differences.values())) > 1

    @cached_property
    def _test(self) -> stats._result_classes.TtestResult:
        return stats.ttest_1samp(list(self.differences.values()), 0.0)


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Paired:
    """Compares two sets of scores by seed; a seed that one of them lacks is left out."""
    return Paired({seed: ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())})


def sample_std(by_seed: Mapping[int, float]) -> float | None:
    """Sample standard deviation (n - 1 below); None below two seeds."""
    return statistics.stdev(by_seed.values()) if len(by_seed) > 1 else None


def critical_t(num_seeds: int) -> float:
    """Half width of the confidence interval in standard errors: 12.7 for two seeds, 4.3 for three, 2.0 for many."""
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, num_seeds - 1))
