"""What an ablation says: every arm against the reference, seed by seed; as tables for page, terminal and Markdown."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from lima_core.metrics.paired import Paired, critical_t, paired, sample_std
from lima_core.stores.ablation import ArmNumber
from lima_core.viz import html
from lima_core.viz.quality import percent
from lima_core.viz.scores import HARD_SPACE, METRICS, Setting, counted, points

DOWNSTREAM = ("linear_probe", "finetune")
NOTHING = "the experiment as it is"
SYNTHETIC = "Synthetic data: these numbers come from a generated world and say nothing about real recordings."


@dataclass(frozen=True)
class Outcome:
    """All that was found, and what is to be compared with what."""

    numbers: Sequence[ArmNumber]
    arms: Sequence[str]
    """In the order of the tables, random starts first."""
    reference: str
    pairs: Sequence[tuple[str, str]] = ()
    """Further comparisons: the first less the second."""
    seconds: Mapping[str, Mapping[int, float]] | None = None
    """Wall time of an arm's trainings by seed, where it was recorded."""

    @property
    def synthetic(self) -> bool:
        """Whether any number comes from generated data."""
        return any(number.synthetic for number in self.numbers)

    @property
    def seeds(self) -> list[int]:
        """Seeds that have any score."""
        return sorted({number.seed for number in self.numbers if number.subject in DOWNSTREAM})

    @cached_property
    def scores(self) -> dict[Setting, dict[str, dict[int, float]]]:
        """Score over all classes by setting, arm and seed; linear probe first, then by rising share of labels."""
        whole = [n for n in self.numbers if n.subject in DOWNSTREAM and not n.class_name and n.value is not None]
        found: dict[Setting, dict[str, dict[int, float]]] = {}
        for number in sorted(whole, key=lambda n: (n.subject != "linear_probe", n.ratio, n.seed)):
            by_arm = found.setdefault(_setting(number), {})
            by_arm.setdefault(number.arm, {})[number.seed] = number.value
        return found

    def by_seed(self, arm: str, subject: str, metric: str) -> dict[int, float]:
        """Numbers of one arm that is no downstream score, by seed."""
        chosen = [n for n in self.numbers if (n.arm, n.subject, n.metric) == (arm, subject, metric)]
        return {number.seed: number.value for number in chosen}


@dataclass(frozen=True)
class Table:
    """Plain text in cells, for any output."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    columns: str
    """As ``html.table`` wants them."""


def tables(outcome: Outcome) -> list[Table]:
    """One table per downstream setting, one of further pairs if any are asked for, one of what the arms learn from."""
    settings = [setting_table(outcome, setting) for setting in outcome.scores]
    return [*settings, *([pair_table(outcome)] if outcome.pairs else []), teaching_table(outcome)]


def setting_table(outcome: Outcome, setting: Setting) -> Table:
    """Every arm under one protocol and share of labels, against the reference."""
    by_arm = outcome.scores[setting]
    reference = by_arm.get(outcome.reference, {})
    rows = []
    for arm in outcome.arms:
        if arm not in by_arm:
            continue
        is_reference = arm == outcome.reference
        against = [html.NONE] * 5 if is_reference else _against(paired(by_arm[arm], reference))
        rows.append([f"{arm} (reference)" if is_reference else arm, spread_text(by_arm[arm], 100), *against])
    metric = METRICS.get(setting.metric, setting.metric)
    header = [
        "arm",
        f"{metric}, %",
        f"points over {outcome.reference}",
        "std of points",
        "95 % interval",
        "seeds won",
        "p",
    ]
    return Table(setting.title, header, rows, "lnnnnnn")


def pair_table(outcome: Outcome) -> Table:
    """The further pairs, in every setting."""
    rows = []
    for ours, theirs in outcome.pairs:
        for setting, by_arm in outcome.scores.items():
            against = _against(paired(by_arm.get(ours, {}), by_arm.get(theirs, {})))
            rows.append([ours, theirs, setting.title, *against])
    header = ["arm", "against", "setting", "points", "std of points", "95 % interval", "seeds won", "p"]
    return Table("Further pairs", header, rows, "lllnnnnn")


def teaching_table(outcome: Outcome) -> Table:
    """The bank as each arm sees it, the distillation, and what the arm's trainings took."""
    rows = []
    for arm in outcome.arms:
        bank = {name: outcome.by_seed(arm, "bank", name).get(None) for name in BANK}
        loss, seconds = outcome.by_seed(arm, "distill", "loss"), (outcome.seconds or {}).get(arm, {})
        shares = [percent(bank[name]) for name in ("coverage", "purity_points", "purity_pixels")]
        depth = html.NONE if bank["depth"] is None else f"{bank['depth']:.2f}"
        window = html.NONE if bank["window"] is None else f"{bank['window']:g}"
        took = spread_text(seconds, 1, 0)
        rows.append([arm, window, shares[0], depth, *shares[1:], spread_text(loss, 1, 4), took])
    header = ["arm", "window", "coverage, %", "depth", "purity by points, %", "by pixels, %", "loss at the end"]
    return Table("What the arms learn from", [*header, "seconds a seed"], rows, "lnnnnnnn")


BANK = ("window", "coverage", "depth", "purity_points", "purity_pixels")
"""Metrics of the subject ``bank``, at the window of the arm."""


def class_tables(outcome: Outcome) -> list[Table]:
    """IoU by class, means over seeds: a table per setting, a column per arm."""
    found: dict[Setting, dict[str, dict[str, list[float]]]] = {}
    for number in outcome.numbers:
        if number.class_name:
            setting = next((s for s in outcome.scores if _same_run(s, number)), None)
            by_class = found.setdefault(setting, {}).setdefault(number.class_name, {})
            by_class.setdefault(number.arm, []).extend([] if number.value is None else [number.value])
    result = []
    for setting in outcome.scores:
        arms = [arm for arm in outcome.arms if arm in outcome.scores[setting]]
        rows = [[name, *(_mean_percent(by_arm.get(arm)) for arm in arms)] for name, by_arm in found[setting].items()]
        title = f"IoU by class, %: {setting.title}"
        result.append(Table(title, ["class", *arms], rows, "l" + "n" * len(arms)))
    return result


def cautions(outcome: Outcome) -> list[str]:
    """How far the tables can be trusted, in sentences computed from what is in them."""
    num_seeds = len(outcome.seeds)
    if not num_seeds:
        return ["There are no scores: nothing was trained downstream."]
    if num_seeds < 2:
        return ["One seed: the spread over seeds is not known, so no difference here can be told from chance."]
    compared = len(outcome.arms) - 1
    texts = [
        f"Differences are paired: an arm's seed against the same seed of the other arm. With {num_seeds} seeds the "
        f"95 % interval is the mean ± {critical_t(num_seeds):.1f} standard errors"
        + (": only differences that are large beside their spread can be told from chance." if num_seeds < 6 else "."),
        f"p is two-sided, Student's t, not corrected for the {counted(compared, 'comparison')} of a table"
        + (": about one in twenty falls below 0.05 by chance alone." if compared > 1 else "."),
    ]
    if uneven := _uneven(outcome):
        texts.append(f"Not every arm has every seed: {', '.join(uneven)}. Pairs are taken over the seeds both have.")
    return texts


def subset_notes(outcome: Outcome) -> list[str]:
    """What is odd about the runs: downstream frames that differ between arms under one name."""
    hashes: dict[Setting, set[str]] = {}
    for number in outcome.numbers:
        if number.subject in DOWNSTREAM and not number.class_name:
            hashes.setdefault(_setting(number), set()).add(number.subset_hash)
    return [
        f"{setting.title}: arms or seeds were trained on different frames ({', '.join(sorted(found))})."
        for setting, found in hashes.items()
        if len(found) > 1
    ]


def to_markdown(title: str, outcome: Outcome, changes: Mapping[str, Sequence[str]], notes: Sequence[str]) -> str:
    """The tables, ready to paste.

    Args:
        title: of the ablation.
        outcome: what was found.
        changes: what each arm sets, for the list at the end.
        notes: further sentences.
    """
    said = [*([f"**{SYNTHETIC}**"] if outcome.synthetic else []), *cautions(outcome), *notes]
    parts = [f"## {title}", *said]
    for table in tables(outcome):
        parts += [f"**{_cell(table.title)}**{_mark(outcome)}", markdown_table(table)]
    # Bold, because "- + x" would be a list in a list.
    told = {arm: ", ".join(f"`{text}`" for text in sets) or NOTHING for arm, sets in changes.items()}
    arms = [f"- **{_cell(arm)}**: {text}" for arm, text in told.items()]
    return "\n\n".join([*parts, "Arms:", "\n".join(arms)]) + "\n"


def _mark(outcome: Outcome) -> str:
    return " (synthetic data)" if outcome.synthetic else ""


def markdown_table(table: Table) -> str:
    """One table in GitHub's Markdown."""
    rule = ["---" if letter == "l" else "---:" for letter in table.columns]
    lines = ([_cell(text) for text in row] for row in (table.header, *table.rows))
    head, *rows = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, f"| {' | '.join(rule)} |", *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace(HARD_SPACE, " ")


def spread_text(by_seed: Mapping[int, float], scale: float, digits: int = 2) -> str:
    """``45.10 ± 0.83`` times ``scale``; a dash for the spread of one seed, and for no number at all."""
    if not by_seed:
        return html.NONE
    std = sample_std(by_seed)
    spread = html.NONE if std is None else f"{scale * std:.{digits}f}"
    return f"{scale * statistics.fmean(by_seed.values()):.{digits}f} ± {spread}".replace(" ", HARD_SPACE)


def _against(found: Paired) -> list[str]:
    if found.mean is None:
        return [html.NONE] * 5
    interval = html.NONE if found.interval is None else " to ".join(points(end, 2) for end in found.interval)
    std = html.NONE if found.std is None else f"{100 * found.std:.2f}"
    won = f"{found.num_won} of {found.num_seeds}"
    return [
        points(found.mean, 2),
        std,
        interval.replace(" ", HARD_SPACE),
        won.replace(" ", HARD_SPACE),
        _p(found.p_value),
    ]


def _p(value: float | None) -> str:
    if value is None:
        return html.NONE
    return "< 0.001".replace(" ", HARD_SPACE) if value < 0.001 else f"{value:.3f}"


def _setting(number: ArmNumber) -> Setting:
    return Setting(number.dataset, number.task, number.metric, number.subject, number.ratio, number.subset_rule)


def _same_run(setting: Setting, number: ArmNumber) -> bool:
    mine = (setting.dataset, setting.task, setting.protocol, setting.ratio, setting.subset_rule)
    return mine == (number.dataset, number.task, number.subject, number.ratio, number.subset_rule)


def _mean_percent(values: Sequence[float] | None) -> str:
    return f"{100 * statistics.fmean(values):.1f}" if values else html.NONE


def _uneven(outcome: Outcome) -> list[str]:
    """Arms that lack a seed in some setting."""
    return [
        f"{arm} lacks {', '.join(map(str, sorted(lacking)))} ({setting.title})"
        for setting, by_arm in outcome.scores.items()
        for arm, by_seed in by_arm.items()
        if (lacking := set(outcome.seeds) - by_seed.keys())
    ]
