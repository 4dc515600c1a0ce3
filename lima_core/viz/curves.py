"""Line figures: training curves and the bank's quality by window."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lima_core.viz.svg import SERIES, TEXT, new_figure

SMOOTH_FROM = 60
"""Curves with more steps than this are drawn faint, with a running mean on top."""


MIN_SPAN = 5.0
PANEL_IN = (3.6, 2.6)
_DOTS = {"marker": "o", "markersize": 3.5, "linewidth": 1.5}

Row = Mapping[str, float | int | None]
"""Of one window: ``frames``, ``coverage``, ``depth``, ``purity_points``, ``purity_pixels``."""


@dataclass(frozen=True)
class Curve:
    """Loss by step of one training."""

    label: str
    """Curves of one label share a colour and one entry in the legend."""
    step: np.ndarray
    """(S,) whole numbers, rising."""
    loss: np.ndarray
    """(S,) float."""


def draw_curves(title: str, curves: Sequence[Curve]) -> Figure:
    """Loss against step of trainings that belong together."""
    figure, axis = new_figure(*PANEL_IN)
    axis.set_title(title)
    axis.set_xlabel("optimiser step")
    axis.set_ylabel("loss")
    labels = list(dict.fromkeys(curve.label for curve in curves))
    seen = set()
    for curve in curves:
        colour = SERIES[labels.index(curve.label) % len(SERIES)]
        label = None if curve.label in seen else curve.label
        seen.add(curve.label)
        if len(curve.step) > SMOOTH_FROM:
            axis.plot(curve.step, curve.loss, color=colour, linewidth=0.6, alpha=0.3)
            smooth = running_mean(curve.loss, len(curve.loss) // 30)
            axis.plot(curve.step, smooth, color=colour, linewidth=1.5, label=label)
        else:
            axis.plot(curve.step, curve.loss, color=colour, linewidth=1.5, label=label, marker=_marker(curve))
    axis.margins(x=0.02)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    if max(len(curve.step) for curve in curves) == 1:
        axis.set_xlim(curves[0].step[0] - 1, curves[0].step[0] + 1)
    axis.ticklabel_format(axis="y", useOffset=False)
    if len(labels) > 1:
        _legend(axis)
    return figure


def _marker(curve: Curve) -> str:
    return "o" if len(curve.step) == 1 else ""


def running_mean(values: np.ndarray, reach: int) -> np.ndarray:
    """(S,) mean over up to ``reach`` values to each side, fewer at the ends."""
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    position = np.arange(len(values))
    start, stop = np.maximum(position - reach, 0), np.minimum(position + reach + 1, len(values))
    return (total[stop] - total[start]) / (stop - start)


def draw_shares(rows: Sequence[Row], names: Mapping[str, str], label: str) -> Figure:
    """Shares in per cent against the window of a memory bank.

    Args:
        rows: by window; ``frames`` and the named values, as fractions or None.
        names: for the legend, by key of the rows; a single one needs no legend.
        label: of the axis, with its unit.
    """
    figure, axis = _by_window(rows, label)
    percents = {name: [np.nan if row[name] is None else 100 * row[name] for row in rows] for name in names}
    for number, (name, values) in enumerate(percents.items()):
        axis.plot([row["frames"] for row in rows], values, color=SERIES[number], label=names[name], **_DOTS)
    axis.set_ylim(*percent_limits([value for values in percents.values() for value in values]))
    axis.ticklabel_format(axis="y", useOffset=False)
    if len(names) > 1:
        _legend(axis)
    return figure


def draw_depth(rows: Sequence[Row]) -> Figure:
    """References per target against the window of a memory bank."""
    figure, axis = _by_window(rows, "depth, references per target")
    axis.plot([row["frames"] for row in rows], [row["depth"] for row in rows], color=SERIES[0], **_DOTS)
    axis.set_ylim(0, 1.1 * max(row["depth"] for row in rows) or 1)
    return figure


def _by_window(rows: Sequence[Row], label: str) -> tuple[Figure, Axes]:
    figure, axis = new_figure(*PANEL_IN)
    axis.set_xlabel("window, key frames")
    axis.set_ylabel(label)
    axis.set_xticks([row["frames"] for row in rows][:: -(-len(rows) // 12)])
    return figure, axis


def percent_limits(percents: Sequence[float]) -> tuple[float, float]:
    """Limits of an axis in per cent, at least 5 points apart, so that no difference looks larger than it is."""
    low, high = float(np.nanmin(percents)), float(np.nanmax(percents))
    span, edge = max(1.16 * (high - low), MIN_SPAN), 0.04 * MIN_SPAN
    bottom = max(min((low + high - span) / 2, 100 + edge - span), -edge)
    return bottom, min(bottom + span, 100 + edge)


def _legend(axis: Axes) -> None:
    axis.legend(frameon=False, fontsize=8, labelcolor=TEXT, loc="best")
