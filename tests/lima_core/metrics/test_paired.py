import pytest
from scipy import stats

from lima_core.metrics.paired import critical_t, paired, sample_std

OURS = {0: 0.50, 1: 0.56, 2: 0.54}
THEIRS = {0: 0.48, 1: 0.52, 2: 0.51}


def test_against_numbers_worked_by_hand() -> None:
    # Differences 0.02, 0.04, 0.03: mean 0.03, std 0.01; t = 0.03 / (0.01 / sqrt 3) = 5.196, 2 degrees of freedom.
    # t(0.975, 2) = 4.302653 (table), so half the interval is 4.302653 * 0.0057735 = 0.024841.
    # With 2 degrees of freedom P(|T| > t) = 1 - t / sqrt(2 + t^2) = 1 - 5.196152 / sqrt(29) = 0.035098.
    found = paired(OURS, THEIRS)
    assert (found.num_seeds, found.num_won) == (3, 3)
    assert found.mean == pytest.approx(0.03)
    assert found.std == pytest.approx(0.01)
    assert found.interval == pytest.approx((0.005159, 0.054841), abs=1e-6)
    assert found.p_value == pytest.approx(0.035098, abs=1e-6)


def test_as_scipys_paired_t_test() -> None:
    ours, theirs = {s: 0.1 * s**1.5 for s in range(7)}, {s: 0.31 + 0.05 * s for s in range(7)}
    found, test = paired(ours, theirs), stats.ttest_rel(list(ours.values()), list(theirs.values()))
    assert found.p_value == pytest.approx(test.pvalue)
    assert found.interval == pytest.approx(tuple(test.confidence_interval(0.95)))


def test_the_spread_of_the_seeds_themselves_does_not_count() -> None:
    shift = {0: 1.0, 1: -3.0, 2: 7.0}
    moved = paired({s: OURS[s] + shift[s] for s in OURS}, {s: THEIRS[s] + shift[s] for s in THEIRS})
    assert moved.p_value == pytest.approx(paired(OURS, THEIRS).p_value)


def test_the_other_way_round_everything_changes_sign() -> None:
    there, back = paired(OURS, THEIRS), paired(THEIRS, OURS)
    assert back.mean == pytest.approx(-there.mean) and back.num_won == 0
    assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]))
    assert back.p_value == pytest.approx(there.p_value)


def test_one_seed_has_no_spread() -> None:
    one = paired({3: 0.5}, {3: 0.4, 4: 0.9})
    assert (one.num_seeds, one.num_won, one.std, one.interval, one.p_value) == (1, 1, None, None, None)
    assert one.mean == pytest.approx(0.1)


def test_no_common_seed() -> None:
    none = paired({0: 0.5}, {1: 0.4})
    assert (none.num_seeds, none.mean, none.p_value) == (0, None, None)


def test_equal_scores_are_no_evidence_and_no_warning() -> None:
    same = paired(OURS, OURS)
    assert (same.mean, same.std, same.num_won, same.interval, same.p_value) == (0.0, 0.0, 0, None, None)


@pytest.mark.parametrize(("num_seeds", "table"), [(2, 12.706), (3, 4.303), (5, 2.776), (1001, 1.962)])
def test_critical_t_is_that_of_the_tables(num_seeds: int, table: float) -> None:
    assert critical_t(num_seeds) == pytest.approx(table, abs=1e-3)


def test_sample_std() -> None:
    assert sample_std({0: 1.0, 1: 3.0}) == pytest.approx(2**0.5)
    assert sample_std({0: 1.0}) is None
