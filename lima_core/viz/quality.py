"""What a memory bank is worth: a figure and a table by window, and a table by group of points."""

from collections.abc import Mapping, Sequence

from lima_core.viz import html
from lima_core.viz.curves import Row, draw_depth, draw_shares
from lima_core.viz.svg import to_svg

EXPLAINED = (
    "Coverage: share of LiDAR points that have a target. Depth: references per target. Purity: share of (point, "
    "reference) pairs in which the class that the reference sees is the class of the point it teaches; by points: the "
    "labels of the LiDAR points behind the reference; by pixels: the class of the pixel itself."
)
BY_GROUP = "By group of the LiDAR points that are taught, by their distance from the LiDAR"
MOVING_KNOWN = (
    "by whether the thing they lie on moves, which a synthetic world knows, and of other data sets only those whose "
    "labels tell it"
)
MOVING_UNKNOWN = "Which points move is not known: this data set does not say it."

GroupRow = Mapping[str, str | float | None]
"""Of one group: ``points``, its name, ``share``, ``coverage``, ``purity_points``, ``purity_pixels``."""


def quality_by_window(rows: Sequence[Row]) -> str:
    """Figure, table, and a sentence for what could not be judged."""
    figures = {
        "coverage": draw_shares(rows, {"coverage": "coverage"}, "coverage, % of points"),
        "depth": draw_depth(rows),
    }
    truths = {"purity_points": "by points", "purity_pixels": "by pixels"}
    if known := {name: label for name, label in truths.items() if rows[-1][name] is not None}:
        label = f"purity {next(iter(known.values()))}" if len(known) == 1 else "purity"
        figures["purity"] = draw_shares(rows, known, f"{label}, % of pairs")
    svg = [to_svg(figure, name, f"{name} of the memory bank against its window") for name, figure in figures.items()]
    header = ["window, key frames", "coverage, %", "depth, references", "purity by points, %", "purity by pixels, %"]
    cells = [
        [
            str(row["frames"]),
            percent(row["coverage"]),
            f"{row['depth']:.2f}",
            percent(row["purity_points"]),
            percent(row["purity_pixels"]),
        ]
        for row in rows
    ]
    return html.drawings(svg, EXPLAINED) + html.table(header, cells, "nnnnn") + _not_judged(rows[-1])


def quality_by_group(rows: Sequence[GroupRow], frames: int) -> str:
    """Table, and a sentence for what the groups are.

    Args:
        rows: by group, of all points first.
        frames: the window that they are counted in.
    """
    header = ["points", "share, %", "coverage, %", "purity by points, %", "purity by pixels, %"]
    names = ("share", "coverage", "purity_points", "purity_pixels")
    cells = [[str(row["points"]), *(percent(row[name]) for name in names)] for row in rows]
    window = f"in a window of {frames} key frame{'s' if frames > 1 else ''}"
    if {"static", "moving"} & {row["points"] for row in rows}:
        explained = f"{BY_GROUP}, and {MOVING_KNOWN}; {window}."
    else:
        explained = f"{BY_GROUP}; {window}. {MOVING_UNKNOWN}"
    return html.table(header, cells, "lnnnn") + html.note(explained)


def _not_judged(row: Row) -> str:
    if row["purity_points"] is None:
        return html.note("Purity is not known: the bank's frames have no labels.")
    if row["purity_pixels"] is None:
        return html.note("Purity by pixels is not known: this data set does not say the class of every pixel.")
    return ""


def percent(share: float | None) -> str:
    """``99.12``; a dash for what is not known."""
    return html.NONE if share is None else f"{100 * share:.2f}"
