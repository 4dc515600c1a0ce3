"""The page of an ablation: dots of every seed, tables, what each arm changes."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lima_core.viz import html, provenance
from lima_core.viz.ablation import NOTHING, SYNTHETIC, Outcome, Table, cautions, class_tables, tables
from lima_core.viz.scores import METRICS, Setting
from lima_core.viz.svg import LINE, SERIES, TEXT, new_figure, to_svg

LEAD = "What each switch of bank and method brings, seed by seed."
WIDTH_IN, ROW_IN, FRAME_IN = 5.4, 0.24, 0.95
LONGEST = 34
"""Letters of an arm's name that fit beside a drawing."""


def page(
    title: str,
    outcome: Outcome,
    known: Mapping[str, str],
    changes: Mapping[str, Sequence[str]],
    notes: Sequence[str],
    manifests: Sequence[tuple[str, provenance.Manifest]],
) -> str:
    """The whole file.

    Args:
        title: of the ablation; it says that data are synthetic where they are.
        outcome: what was found.
        known: facts for the head of the page, by name.
        changes: what each arm sets.
        notes: further sentences.
        manifests: of every artifact, by its name.
    """
    mark = f'<p class="synthetic">{html.escape(SYNTHETIC)}</p>' if outcome.synthetic else ""
    said = "".join(html.note(text) for text in (*cautions(outcome), *notes))
    head = f'<h1>{html.escape(title)}</h1><p class="lead">{LEAD}</p>{mark}{provenance.facts(known)}'
    *compared, teaching = tables(outcome)
    results = "".join(f"<h3>{html.escape(table.title)}</h3>{_html(table)}" for table in compared)
    body = [
        head,
        html.section("Results on the validation split", drawings(outcome), said, results),
        html.section(teaching.title, _html(teaching), html.note(EXPLAINED)),
        html.section("The arms", arm_table(changes)),
        html.section("By class", *(html.details(table.title, _html(table)) for table in class_tables(outcome))),
        html.section("Where it comes from", html.details("All artifacts", provenance.provenance_table(manifests))),
    ]
    return html.page(title, body)


EXPLAINED = (
    "Coverage, depth and purity are those of the memory bank at the arm's window, in key frames, before anything is "
    "trained. The loss is the mean over the last tenth of the distillation's steps; arms with other targets have other "
    "losses, so it ranks nothing. Seconds are wall time of the arm's own trainings and evaluations of one seed, with "
    "whatever else the machine did at that time; what arms share is counted with each of them."
)


def drawings(outcome: Outcome) -> str:
    """A panel per setting."""
    svg = [
        to_svg(draw_dots(outcome, setting), f"dots{number}", "Score of every seed by arm")
        for number, setting in enumerate(outcome.scores)
    ]
    caption = (
        "A dot per seed, a bar at the mean of each arm, a dashed line at the mean of the reference. The axis does not "
        "start at zero."
    )
    return html.drawings(svg, caption, columns=2) if svg else html.note("There are no scores.")


def draw_dots(outcome: Outcome, setting: Setting) -> Figure:
    """Per cent by arm: a dot per seed and a bar at the mean; seeds have colours while these suffice."""
    by_arm = outcome.scores[setting]
    arms = [arm for arm in outcome.arms if arm in by_arm]
    figure, axis = new_figure(WIDTH_IN, ROW_IN * len(arms) + FRAME_IN)
    seeds = outcome.seeds
    for seed in seeds:
        place = [(100 * by_arm[arm][seed], row) for row, arm in enumerate(arms) if seed in by_arm[arm]]
        colour, label = (SERIES[seeds.index(seed)], f"seed {seed}") if len(seeds) <= len(SERIES) else (SERIES[0], None)
        axis.plot(*zip(*place, strict=True), "o", color=colour, markersize=4, alpha=0.75, linewidth=0, label=label)
    means = [100 * sum(by_arm[arm].values()) / len(by_arm[arm]) for arm in arms]
    axis.plot(means, range(len(arms)), "|", color=TEXT, markersize=11, markeredgewidth=1.8)
    if outcome.reference in arms:
        axis.axvline(means[arms.index(outcome.reference)], color=TEXT, linewidth=0.8, linestyle=(0, (4, 3)))
    axis.set_yticks(range(len(arms)), [shortened(arm) for arm in arms])
    axis.set_ylim(len(arms) - 0.4, -0.6)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axis.set_title(setting.title)
    axis.set_xlabel(f"{METRICS.get(setting.metric, setting.metric)}, %")
    axis.grid(axis="y", color=LINE, linewidth=0.6)
    if 1 < len(seeds) <= len(SERIES):
        figure.legend(frameon=False, fontsize=7, labelcolor=TEXT, loc="outside lower center", ncols=len(seeds))
    return figure


def shortened(name: str) -> str:
    """A name that fits beside a drawing; ``$`` is no formula."""
    text = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"
    return text.replace("$", r"\$")


def arm_table(changes: Mapping[str, Sequence[str]]) -> str:
    """What each arm sets in the experiment."""
    rows = [[arm, ", ".join(sets) or NOTHING] for arm, sets in changes.items()]
    return html.table(["arm", "sets"], rows, "lw")


def _html(table: Table) -> str:
    return html.table(table.header, table.rows, table.columns)
