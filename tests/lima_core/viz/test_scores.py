import statistics

import pytest

from lima_core.stores.scores import Score
from lima_core.viz import scores


def run(
    init: str,
    seed: int,
    miou: float | None,
    protocol: str = "linear_probe",
    ratio: float = 1.0,
    evaluator: str = "lima",
    digest: str = "abcdef0123456789",
    method: str = "lima",
) -> list[Score]:
    """Scores of one training: the mean, and two classes of which one does not occur."""
    facts = {
        "dataset": "tiny", "task": "seg", "protocol": protocol, "init": init, "ratio": ratio, "seed": seed,
        "method": "none" if init == "random" else method, "subset_rule": "every_nth_scene", "subset_hash": digest,
        "num_scenes": 2, "num_frames": 9, "evaluator": evaluator,
    }  # fmt: skip
    named = [("miou", "", miou), ("iou", "car", miou), ("iou", "bus", None)]
    return [Score(**facts, metric=metric, class_name=name, value=value) for metric, name, value in named]


RANDOM, TAUGHT = (0.30, 0.32, 0.31), (0.45, 0.41, 0.46)
SEEDS = [
    score
    for seed in range(3)
    for init, values in (("random", RANDOM), ("pretrained", TAUGHT))
    for score in run(init, seed, values[seed])
]


def test_difference_and_spread_over_seeds() -> None:
    (row,) = scores.compare(SEEDS)
    assert row.random == dict(enumerate(RANDOM)) and row.pretrained == dict(enumerate(TAUGHT))
    assert row.difference == pytest.approx(statistics.fmean(TAUGHT) - statistics.fmean(RANDOM))
    assert row.spread == pytest.approx(((statistics.stdev(RANDOM) ** 2 + statistics.stdev(TAUGHT) ** 2) / 3) ** 0.5)
    assert row.subset == (("abcdef0123456789", 2, 9),)
    assert row.random_classes == {"car": list(RANDOM), "bus": [None, None, None]}


def test_settings_are_kept_apart_probe_first_then_by_labels() -> None:
    mixed = [
        *run("random", 0, 0.5, "finetune", 0.1), *run("random", 0, 0.4, "finetune", 0.01), *run("random", 0, 0.3),
        *run("pretrained", 0, 0.6, "finetune", 0.01),
    ]  # fmt: skip
    rows = scores.compare(mixed)
    assert [(row.setting.protocol, row.setting.ratio) for row in rows] == [
        ("linear_probe", 1.0), ("finetune", 0.01), ("finetune", 0.1),
    ]  # fmt: skip
    assert [row.difference for row in rows] == [None, pytest.approx(0.2), None]


def test_each_method_is_compared_with_the_same_random_runs() -> None:
    rows = scores.compare([*SEEDS, *run("pretrained", 0, 0.2, method="scalr")])
    assert [(row.method, row.random) for row in rows] == [(m, dict(enumerate(RANDOM))) for m in ("lima", "scalr")]


def test_other_evaluators_confirm_and_are_not_counted_twice() -> None:
    both = SEEDS + run("random", 0, RANDOM[0], evaluator="devkit")
    assert scores.compare(both) == scores.compare(SEEDS)
    assert scores.evaluators(both) == "our own (lima); devkit (the same in 2 numbers)"
    off = SEEDS + run("random", 0, RANDOM[0] + 0.01, evaluator="devkit")
    assert "at most 1 points apart" in scores.evaluators(off)


def test_reading_of_several_seeds() -> None:
    text = scores.reading(scores.compare(SEEDS)).replace(scores.HARD_SPACE, " ")
    assert "44.0 ± 2.6 % mIoU" in text and "31.0 ± 1.0 %" in text and "+13.0 points" in text
    assert "more than two standard errors over 3 seeds" in text


def test_reading_of_one_seed_says_so_and_a_loss_is_a_loss() -> None:
    text = scores.reading(scores.compare(run("random", 0, 0.4) + run("pretrained", 0, 0.3)))
    assert "spread over seeds is not known" in text
    assert f"{scores.MINUS}10.0" in text


def test_reading_of_a_difference_within_the_spread() -> None:
    near = [s for seed, (a, b) in enumerate([(0.30, 0.31), (0.34, 0.33)]) for s in run("random", seed, a) + run("pretrained", seed, b)]  # fmt: skip  # noqa: E501
    assert "within two standard errors over 2 seeds" in scores.reading(scores.compare(near))


@pytest.mark.parametrize("found", [[], run("random", 0, 0.4)])
def test_nothing_to_compare_is_said(found: list[Score]) -> None:
    assert "no comparison" in scores.reading(scores.compare(found))


@pytest.mark.parametrize(
    ("difference", "text"), [(0.032, "+3.2"), (-0.5, f"{scores.MINUS}50.0"), (0.0, "0.0"), (-0.0001, "0.0")]
)
def test_points(difference: float, text: str) -> None:
    assert scores.points(difference) == text


def test_undefined_mean_is_left_out() -> None:
    assert scores.compare(run("random", 0, None)) == []


def test_tables_show_numbers_subset_and_absent_classes() -> None:
    rows = scores.compare(SEEDS)
    table = scores.score_table(rows).replace(scores.HARD_SPACE, " ")
    for text in ("44.0 ± 2.6 (n = 3)", "31.0 ± 1.0 (n = 3)", "+13.0", "9 frames of 2 scenes", "abcdef01", "LiMA"):
        assert text in table
    classes = scores.class_tables(rows)
    assert '<td class="l">bus</td><td class="n">–</td>' in classes  # noqa: RUF001


def test_subsets_that_differ_are_all_shown() -> None:
    rows = scores.compare(run("random", 0, 0.4) + run("pretrained", 0, 0.3, digest="ffff000011112222"))
    assert "abcdef01" in scores.score_table(rows) and "ffff0000" in scores.score_table(rows)
