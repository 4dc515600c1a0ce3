import re

import pytest

from lima_core.stores.ablation import ArmNumber
from lima_core.viz import ablation, ablation_page
from lima_core.viz.ablation import Outcome
from lima_core.viz.html import NONE
from lima_core.viz.scores import HARD_SPACE, MINUS

# Differences 2, 4 and 3 points: interval 0.52 to 5.48, p 0.035, by hand in tests/lima_core/metrics/test_paired.py.
SCORES = {"base": (0.48, 0.52, 0.51), "+ all | <b>": (0.50, 0.56, 0.54), "random start": (0.40, 0.53, 0.45)}


def run(arm: str, seed: int, miou: float, subject: str = "linear_probe", **facts: object) -> list[ArmNumber]:
    told = {"dataset": "world", "synthetic": True, "task": "seg", "ratio": 1.0, "subset_hash": "aa"} | facts
    named = [("miou", "", miou), ("iou", "car", miou), ("iou", "bus", None)]
    return [ArmNumber(arm, seed, subject, metric, value, class_name=name, **told) for metric, name, value in named]


def bank(arm: str, **values: float | None) -> list[ArmNumber]:
    return [ArmNumber(arm, None, "bank", metric, value, "world", True) for metric, value in values.items()]


def outcome(num_seeds: int = 3, **changes: object) -> Outcome:
    numbers = [number for arm, values in SCORES.items() for s in range(num_seeds) for number in run(arm, s, values[s])]
    quality = {"window": 6.0, "coverage": 0.9, "depth": 1.5, "purity_points": 0.99, "purity_pixels": None}
    numbers += bank("base", **quality)
    numbers += [ArmNumber("base", s, "distill", "loss", 1.0 + s, "world", True) for s in range(num_seeds)]
    told = {"numbers": numbers, "arms": ("random start", "base", "+ all | <b>"), "reference": "base"}
    return Outcome(**told | {"seconds": {"base": {0: 90.0, 1: 110.0}}} | changes)


def cells(table: ablation.Table) -> dict[str, list[str]]:
    return {row[0]: [cell.replace(HARD_SPACE, " ") for cell in row[1:]] for row in table.rows}


def test_every_arm_is_compared_seed_by_seed() -> None:
    first, *_ = ablation.tables(outcome())
    rows = cells(first)
    assert list(rows) == ["random start", "base (reference)", "+ all | <b>"]
    assert rows["base (reference)"] == ["50.33 ± 2.08", *[NONE] * 5]
    assert rows["+ all | <b>"] == ["53.33 ± 3.06", "+3.00", "1.00", "+0.52 to +5.48", "3 of 3", "0.035"]
    assert rows["random start"][1].startswith(MINUS) and rows["random start"][4] == "1 of 3"
    assert first.header[2] == "points over base"


def test_one_seed_has_no_spread_and_says_so() -> None:
    rows = cells(ablation.tables(outcome(1))[0])
    assert rows["+ all | <b>"] == [f"50.00 ± {NONE}", "+2.00", NONE, NONE, "1 of 1", NONE]
    assert ablation.cautions(outcome(1))[0].startswith("One seed: the spread over seeds is not known")


def test_no_score_is_not_called_one_seed() -> None:
    untrained = outcome(numbers=[number for number in outcome().numbers if number.subject == "distill"])
    assert ablation.cautions(untrained) == ["There are no scores: nothing was trained downstream."]


def test_few_seeds_are_called_few() -> None:
    text = " ".join(ablation.cautions(outcome()))
    assert "With 3 seeds" in text and "4.3 standard errors: only differences that are large" in text
    assert "not corrected for the 2 comparisons" in text


def test_a_missing_seed_is_named_and_pairs_are_what_both_have() -> None:
    numbers = [n for n in outcome().numbers if (n.arm, n.seed) != ("base", 1)]
    found = outcome(numbers=numbers)
    assert cells(ablation.tables(found)[0])["+ all | <b>"][4] == "2 of 2"
    assert any("base lacks 1 (linear probe" in text for text in ablation.cautions(found))


def test_settings_are_tables_of_their_own_and_arms_without_runs_are_left_out() -> None:
    more = [*outcome().numbers, *run("base", 0, 0.3, "finetune", ratio=0.01)]
    titles = [table.title.replace(HARD_SPACE, " ") for table in ablation.tables(outcome(numbers=more))]
    assert titles[:2] == ["linear probe on 100 % of the labels", "fine-tuning on 1 % of the labels"]
    assert list(cells(ablation.tables(outcome(numbers=more))[1])) == ["base (reference)"]


def test_further_pairs() -> None:
    table = ablation.tables(outcome(pairs=[("base", "+ all | <b>")]))[1]
    assert table.title == "Further pairs"
    (row,) = table.rows
    assert row[3:5] == [f"{MINUS}3.00", "1.00"]


def test_what_an_arm_learns_from() -> None:
    rows = cells(ablation.tables(outcome())[-1])
    assert rows["base"] == ["6", "90.00", "1.50", "99.00", NONE, "2.0000 ± 1.0000", "100 ± 14"]
    assert rows["random start"] == [NONE] * 7


def test_classes_are_means_over_seeds() -> None:
    (table,) = ablation.class_tables(outcome())
    assert cells(table) == {"car": ["46.0", "50.3", "53.3"], "bus": [NONE] * 3}


def test_different_training_frames_are_said() -> None:
    assert ablation.subset_notes(outcome()) == []
    mixed = [*outcome().numbers, *run("base", 3, 0.5, subset_hash="bb")]
    assert "trained on different frames (aa, bb)" in ablation.subset_notes(outcome(numbers=mixed))[0]


def test_markdown_is_labelled_synthetic_and_escapes_bars() -> None:
    text = ablation.to_markdown("Toy", outcome(), {"base": ["a.b=1"], "+ all | <b>": []}, ["A note."])
    assert text.startswith("## Toy\n\n**Synthetic data: ") and text.count("(synthetic data)") == 2
    assert "| + all \\| <b> | 53.33 ± 3.06 | +3.00 |" in text and "A note." in text
    # "- + all" would be a list in a list, without the plus.
    assert "- **base**: `a.b=1`" in text and "- **+ all \\| <b>**: the experiment as it is" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {8, 9}
    real = [ArmNumber(**{**vars(n), "synthetic": False}) for n in outcome().numbers]
    assert "ynthetic" not in ablation.to_markdown("Toy", outcome(numbers=real), {}, [])


def test_the_page_holds_everything_and_needs_nothing() -> None:
    text = ablation_page.page("Toy", outcome(), {"teacher": "filters"}, {"base": ["a.b=1"]}, ["A note."], [])
    for part in ("Synthetic data:", "filters", "+0.52 to +5.48", "A note.", "a.b=1", "<svg", "IoU by class"):
        assert part in text.replace(HARD_SPACE, " ")
    assert "<b>" not in text and "&lt;b&gt;" in text
    assert not re.findall(r'(?:src|href)="(?!#|data:)', text.replace("xlink:href", "href"))


@pytest.mark.parametrize(("num_seeds", "colours"), [(3, 3), (6, 1)])
def test_dots_by_seed(num_seeds: int, colours: int) -> None:
    numbers = [n for arm in ("base", "x") for seed in range(num_seeds) for n in run(arm, seed, 0.1 * seed)]
    found = outcome(numbers=numbers, arms=("base", "x"))
    (setting,) = found.scores
    (axis,) = ablation_page.draw_dots(found, setting).axes
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in dots) == 2 * num_seeds
    assert len({line.get_color() for line in dots}) == colours
    assert sorted(x for line in dots for x in line.get_xdata())[-1] == pytest.approx(10 * (num_seeds - 1))


def test_long_names_and_dollars() -> None:
    assert len(ablation_page.shortened("x" * 80)) == ablation_page.LONGEST
    assert ablation_page.shortened("$x$") == r"\$x\$"
