"""Figures as SVG inside the page, in the page's own colours, so that they are readable in light and in dark.

A figure is drawn with stand-in colours (``TEXT``, ``LINE``, ``SERIES``); on the way out they become the page's CSS
variables. Text is drawn as paths, so no font is needed.
"""

import io
import re

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

TEXT, LINE = "#a000f0", "#a000f1"
SERIES = ("#a000e0", "#a000e1", "#a000e2", "#a000e3")
_CSS = {TEXT: "var(--muted)", LINE: "var(--line)"} | {colour: f"var(--s{i})" for i, colour in enumerate(SERIES)}


def new_figure(width_in: float, height_in: float) -> tuple[Figure, Axes]:
    """A figure with one pair of axes, laid out so that no text overlaps."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    axis = figure.subplots()
    style(axis)
    return figure, axis


def style(axis: Axes) -> None:
    """Thin lines, two spines, stand-in colours."""
    axis.grid(True, color=LINE, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(colors=TEXT, labelsize=8, width=0.6, length=3)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set(color=LINE, linewidth=0.8)
    for label in (axis.xaxis.label, axis.yaxis.label, axis.title):
        label.set(color=TEXT, fontsize=9)


def to_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an ``<svg>`` element; the same figure gives the same text.

    Args:
        figure: drawn with the stand-in colours.
        name: unique on the page, for the ids inside.
        description: for screen readers, one sentence; plain text without markup characters.
    """
    assert not set(description) & set('<>&"'), description
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": name}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    head, _, rest = text.partition(">")
    head = re.sub(r' (width|height)="[^"]*"', "", head) + f' role="img" aria-label="{description}"'
    text = re.sub(r'(id="|xlink:href="#|url\(#)', rf"\g<1>{name}-", f"{head}>{rest}")
    for colour, variable in _CSS.items():
        text = text.replace(colour, variable)
    return text
