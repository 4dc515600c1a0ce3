"""What the scores say: random initialisation against pre-training, per protocol and label share, over seeds."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lima_core.stores.scores import Score
from lima_core.viz import html

OWN = "lima"
"""Name of our own evaluator; the others confirm it."""

PROTOCOLS = {"linear_probe": "linear probe", "finetune": "fine-tuning"}
HARD_SPACE = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
METHODS = {"lima": "LiMA", "scalr": "ScaLR", "slidr": "SLidR", "seal": "Seal", "superflow": "SuperFlow"}
METRICS = {"miou": "mIoU"}
RULES = {
    "every_nth_scene": "every n-th scene",
    "every_nth_frame": "every n-th frame",
    "listed": "listed scenes or frames",
}


@dataclass(frozen=True)
class Setting:
    """What two initialisations must share to be compared."""

    dataset: str
    task: str
    metric: str
    protocol: str
    ratio: float
    subset_rule: str

    @property
    def title(self) -> str:
        """``linear probe on 100 % of the labels``."""
        return setting_title(self.protocol, self.ratio)


@dataclass(frozen=True)
class Comparison:
    """One row of the results: a pre-training method against random initialisation."""

    setting: Setting
    method: str
    """Empty where only random initialisation has been scored."""
    random: Mapping[int, float]
    """Score by seed, as a fraction."""
    pretrained: Mapping[int, float]
    subset: tuple[tuple[str, int, int], ...]
    """Hash, scenes and frames of every training subset in use: one, unless seeds or initialisations differ."""
    random_classes: Mapping[str, Sequence[float | None]]
    """Per class, one value a seed; None where the class does not occur."""
    pretrained_classes: Mapping[str, Sequence[float | None]]

    @property
    def difference(self) -> float | None:
        """Pre-trained less random, means over seeds, as a fraction; None where one is missing."""
        if not (self.random and self.pretrained):
            return None
        return statistics.fmean(self.pretrained.values()) - statistics.fmean(self.random.values())

    @property
    def spread(self) -> float | None:
        """Standard deviation of the difference: of the two means, independent; None with a single seed."""
        if min(len(self.random), len(self.pretrained)) < 2:
            return None
        of_means = (statistics.variance(v.values()) / len(v) for v in (self.random, self.pretrained))
        return sum(of_means) ** 0.5


def compare(scores: Sequence[Score]) -> list[Comparison]:
    """All comparisons by our own evaluator, linear probe first, then by rising share of labels."""
    own = [score for score in scores if score.evaluator == OWN]
    whole = [score for score in own if not score.class_name and score.value is not None]
    settings = sorted({_setting(score) for score in whole}, key=lambda s: (s.protocol != "linear_probe", s.ratio))
    found = []
    for setting in settings:
        here = [score for score in whole if _setting(score) == setting]
        methods = sorted({score.method for score in here if score.init != "random"}) or [""]
        found += [_comparison(setting, method, here, own) for method in methods]
    return found


def _setting(score: Score) -> Setting:
    return Setting(score.dataset, score.task, score.metric, score.protocol, score.ratio, score.subset_rule)


def _comparison(setting: Setting, method: str, whole: Sequence[Score], own: Sequence[Score]) -> Comparison:
    random = [score for score in whole if score.init == "random"]
    pretrained = [score for score in whole if score.init != "random" and score.method == method]
    subset = {(score.subset_hash, score.num_scenes, score.num_frames) for score in (*random, *pretrained)}
    return Comparison(
        setting=setting,
        method=method,
        random={score.seed: score.value for score in random},
        pretrained={score.seed: score.value for score in pretrained},
        subset=tuple(sorted(subset)),
        random_classes=_by_class(own, random),
        pretrained_classes=_by_class(own, pretrained),
    )


def _by_class(own: Sequence[Score], runs: Sequence[Score]) -> dict[str, list[float | None]]:
    """Class scores of the same trainings as ``runs``, in the order of the classes."""

    def training(score: Score) -> tuple:
        return (
            score.dataset,
            score.task,
            score.protocol,
            score.init,
            score.method,
            score.ratio,
            score.subset_hash,
            (score.seed),
        )

    wanted, found = {training(score) for score in runs}, {}
    for score in own:
        if score.class_name and training(score) in wanted:
            found.setdefault(score.class_name, []).append(score.value)
    return found


def setting_title(protocol: str, ratio: float) -> str:
    """``linear probe on 100 % of the labels``."""
    return f"{PROTOCOLS.get(protocol, protocol)} on {100 * ratio:g}{HARD_SPACE}% of the labels"


def evaluators(scores: Sequence[Score]) -> str:
    """Names of the evaluators, and how far the others are from our own, from the numbers themselves."""
    key = {
        (s.protocol, s.init, s.method, s.ratio, s.subset_hash, s.seed, s.metric, s.class_name): s.value
        for s in scores
        if s.evaluator == OWN
    }
    parts = [f"our own ({OWN})"] if key else []
    for name in sorted({score.evaluator for score in scores} - {OWN}):
        pairs = [
            (s.value, key.get((s.protocol, s.init, s.method, s.ratio, s.subset_hash, s.seed, s.metric, s.class_name)))
            for s in scores
            if s.evaluator == name
        ]
        gaps = [abs(theirs - ours) for theirs, ours in pairs if theirs is not None and ours is not None]
        apart = f"at most {100 * max(gaps):.1g} points apart" if any(gaps) else "the same"
        parts.append(f"{name} ({apart} in {len(gaps)} numbers)" if gaps else name)
    return "; ".join(parts)


def reading(comparisons: Sequence[Comparison]) -> str:
    """The result in one sentence (two where there are several rows), computed from the numbers."""
    both = [row for row in comparisons if row.difference is not None]
    if not both:
        return "There is no comparison of random initialisation and pre-training yet."
    first = both[0]
    metric = METRICS.get(first.setting.metric, first.setting.metric)
    title = f"a {first.setting.title}" if first.setting.protocol == "linear_probe" else first.setting.title
    text = (
        f"With {title}, {method_name(first.method)} pre-training reaches "
        f"{mean_text(first.pretrained)}{HARD_SPACE}% {metric} and random initialisation "
        f"{mean_text(first.random)}{HARD_SPACE}%: "
        f"{points(first.difference)}{HARD_SPACE}points, {_weight(first)}."
    )
    if len(both) > 1:
        ahead = sum(row.difference > 0 for row in both)
        text += f" Pre-training is ahead in {ahead} of {len(both)} settings."
    return text


def _weight(row: Comparison) -> str:
    if row.spread is None:
        return "from one seed, so the spread over seeds is not known"
    within = "more than" if abs(row.difference) > 2 * row.spread else "within"
    return f"{within} two standard errors over {min(len(row.random), len(row.pretrained))} seeds"


HEADER = ("protocol", "labels", "metric, %", "random", "pre-trained", "points", "pre-trained by", "training frames")


def score_rows(comparisons: Sequence[Comparison]) -> list[list[str]]:
    """Under ``HEADER``, one row per protocol, share of labels and method, as text."""
    rows = []
    for row in comparisons:
        setting, rule = row.setting, RULES.get(row.setting.subset_rule, row.setting.subset_rule)
        frames = "; ".join(
            f"{counted(frames, 'frame')} of {counted(scenes, 'scene')}, {rule}, {digest[:8]}"
            for digest, scenes, frames in row.subset
        )
        words = [PROTOCOLS.get(setting.protocol, setting.protocol), f"{100 * setting.ratio:g} %"]
        numbers = [_with_n(row.random), _with_n(row.pretrained), points(row.difference)]
        metric = METRICS.get(setting.metric, setting.metric)
        rows.append([*words, metric, *numbers, method_name(row.method), frames])
    return rows


def score_table(comparisons: Sequence[Comparison]) -> str:
    """The same rows as a table of the page."""
    return html.table(list(HEADER), score_rows(comparisons), "lnlnnnlw")


def class_tables(comparisons: Sequence[Comparison]) -> str:
    """Scores by class, one part that unfolds per row of the results."""
    return "".join(_class_table(row) for row in comparisons if row.random_classes or row.pretrained_classes)


def _class_table(row: Comparison) -> str:
    names = list(dict.fromkeys((*row.random_classes, *row.pretrained_classes)))
    rows = []
    for name in names:
        random, pretrained = (_mean(values.get(name, [])) for values in (row.random_classes, row.pretrained_classes))
        both = None if random is None or pretrained is None else pretrained - random
        rows.append([name, _percent(random), _percent(pretrained), points(both)])
    header = ["class", "random, IoU %", f"{method_name(row.method)}, IoU %", "points"]
    return html.details(f"IoU by class: {row.setting.title}", html.table(header, rows, "lnnn"))


def method_name(method: str) -> str:
    """As papers write it."""
    return METHODS.get(method, method) if method else "not scored"


def mean_text(by_seed: Mapping[int, float]) -> str:
    """``45.1`` or, over several seeds, ``45.1 ± 0.8``, per cent."""
    values = [100 * value for value in by_seed.values()]
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread}".replace(" ", HARD_SPACE)


def points(difference: float | None, digits: int = 1) -> str:
    """``+3.2`` of a difference of fractions, ``0.0`` without a sign."""
    if difference is None:
        return html.NONE
    text = f"{100 * difference:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def _with_n(by_seed: Mapping[int, float]) -> str:
    return f"{mean_text(by_seed)} (n = {len(by_seed)})" if by_seed else html.NONE


def _percent(value: float | None) -> str:
    return html.NONE if value is None else f"{100 * value:.1f}"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def counted(number: int, word: str) -> str:
    """``1 scene``, ``2 scenes``."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
