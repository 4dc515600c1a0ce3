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


@dataclass(frozen=True)
class Curve:
    """Loss by step of one training."""

    label: str
    """Curves of one label share a colour and one entry in the legend."""
    step: np.ndarray
    """(S,) whole numbers, rising."""
    loss: np.ndarray
    """(S,) float."""


def draw_curves(panels: Mapping[str, Sequence[Curve]]) -> Figure:
    """One panel per title, loss against step."""
    figure, axes = new_figure(min(3.7 * len(panels), 11.0), 2.7, len(panels))
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        axis.set_title(title)
        axis.set_xlabel("optimiser step")
        axis.set_ylabel("loss")
        _draw_panel(axis, curves)
    return figure


def _draw_panel(axis: Axes, curves: Sequence[Curve]) -> None:
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
    axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if len(labels) > 1:
        _legend(axis)


def _marker(curve: Curve) -> str:
    return "o" if len(curve.step) == 1 else ""


def running_mean(values: np.ndarray, reach: int) -> np.ndarray:
    """(S,) mean over up to ``reach`` values to each side, fewer at the ends."""
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    position = np.arange(len(values))
    start, stop = np.maximum(position - reach, 0), np.minimum(position + reach + 1, len(values))
    return (total[stop] - total[start]) / (stop - start)


def draw_quality(rows: Sequence[Mapping[str, float | int | None]]) -> Figure:
    """Coverage, purity and depth of a memory bank against the window; ``Quality.by_window`` gives the rows."""
    known = [name for name in ("purity_points", "purity_pixels") if rows[-1][name] is not None]
    figure, axes = new_figure(10.5 if known else 7.2, 2.6, 3 if known else 2)
    frames = [row["frames"] for row in rows]
    for axis in axes:
        axis.set_xlabel("window, key frames")
        axis.set_xticks(frames if len(frames) <= 12 else frames[:: -(-len(frames) // 12)])
    _percent(axes[0], frames, rows, "coverage", "coverage, % of points", 0)
    axes[1].plot(frames, [row["depth"] for row in rows], color=SERIES[0], marker="o", markersize=3.5, linewidth=1.5)
    axes[1].set_ylabel("depth, references per target")
    axes[1].set_ylim(bottom=0)
    for number, name in enumerate(known):
        _percent(axes[2], frames, rows, name, "purity, % of pairs", number)
    if len(known) > 1:
        _legend(axes[2])
    return figure


def _percent(
    axis: Axes, frames: list, rows: Sequence[Mapping[str, float | int | None]], name: str, label: str, series: int
) -> None:
    values = [None if row[name] is None else 100 * row[name] for row in rows]
    legend = {"purity_points": "by points", "purity_pixels": "by pixels"}.get(name)
    values = [np.nan if value is None else value for value in values]
    axis.plot(frames, values, color=SERIES[series], marker="o", markersize=3.5, linewidth=1.5, label=legend)
    axis.set_ylabel(label)
    axis.ticklabel_format(axis="y", useOffset=False)
    axis.set_ylim(*axis_limits([*values, *(line for drawn in axis.lines for line in drawn.get_ydata())]))


def axis_limits(percents: Sequence[float]) -> tuple[float, float]:
    """Limits of an axis in per cent: never less than 5 points apart, so that nothing looks larger than it is."""
    low, high = np.nanmin(percents), np.nanmax(percents)
    margin = max(0.08 * (high - low), (MIN_SPAN - (high - low)) / 2)
    top = min(high + margin, 100.0 + 0.04 * MIN_SPAN)
    return float(max(min(low - margin, top - MIN_SPAN), -0.04 * MIN_SPAN)), float(top)


def _legend(axis: Axes) -> None:
    axis.legend(frameon=False, fontsize=8, labelcolor=TEXT, loc="best")
