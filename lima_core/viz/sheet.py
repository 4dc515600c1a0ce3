"""Composite figures for print: a grid of pictures with titles, captions, colour bars and a legend, on white.

matplotlib sets the text; every picture is placed at whole pixels and shown one to one, so nothing is resampled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Patch
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

DPI = 200
INK, MUTED, EDGE = "#1b1f26", "#5a6372", "#c9ced6"
GAP_PX, MARGIN_PX = 12, 24
TITLE_PX, SUBTITLE_PX, HEAD_PX, LABEL_PX, CAPTION_PX, BAR_PX, LEGEND_PX, LINE_PX = 46, 36, 38, 64, 34, 150, 36, 30
SIZES = {"title": 10.5, "head": 9.0, "label": 9.0, "caption": 7.5, "small": 7.0}
"""Points."""
LEGEND_EM = 2.9
"""Colour, its distance from the words, and the distance of columns."""


@dataclass(frozen=True)
class Panel:
    """One picture of a figure."""

    picture: Image.Image
    caption: str = ""
    """Below it; one line."""
    mark_px: tuple[float, float] | None = None
    """Column and row of a ring that is drawn around a place."""
    head: str = ""
    """Above it, where columns have no heads of their own."""


@dataclass(frozen=True)
class Bar:
    """The colours of a row of pictures."""

    low: float
    high: float
    label: str
    colours: str = "turbo"
    """A matplotlib colour map."""
    clipped: bool = False
    """Values below ``low`` occur and are shown in its colour."""


@dataclass(frozen=True)
class Row:
    """Pictures beside each other, as high as the highest of them."""

    panels: Sequence[Panel | None]
    """None leaves a place empty."""
    label: str = ""
    """At the left, upright."""
    bar: Bar | None = None


@dataclass(frozen=True)
class Sheet:
    """A figure, before it is drawn."""

    title: str
    subtitle: str
    rows: Sequence[Row]
    heads: Sequence[str] = ()
    """Over the columns."""
    legends: Sequence[Sequence[tuple[str, str]]] = ()
    """Colour and words, in groups that stand below each other."""
    notes: Sequence[str] = ()
    """Lines at the foot."""
    legend_columns: int = 6
    """At most."""


def draw_sheet(sheet: Sheet) -> Image.Image:
    """The figure as an RGB image at ``DPI``; the same sheet gives the same pixels."""
    layout = _Layout(sheet)
    figure = Figure(figsize=(layout.width / DPI, layout.height / DPI), dpi=DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    _words(figure, layout, sheet)
    for row, top, height in zip(sheet.rows, layout.tops, layout.heights, strict=True):
        _row(figure, layout, row, top, height)
    for entries, top in zip(sheet.legends, layout.legends, strict=True):
        _legend(figure, layout, entries, min(sheet.legend_columns, len(entries)), top)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


class _Layout:
    """Where everything stands, in pixels from the top left."""

    def __init__(self, sheet: Sheet) -> None:
        columns = max(len(row.panels) for row in sheet.rows)
        grid = [[*row.panels, *[None] * (columns - len(row.panels))] for row in sheet.rows]
        self.widths = [max((p.picture.width for p in column if p), default=0) for column in zip(*grid, strict=True)]
        self.heights = [max(panel.picture.height for panel in row if panel) for row in grid]
        left = MARGIN_PX + (LABEL_PX if any(row.label for row in sheet.rows) else 0)
        self.lefts = [left + sum(self.widths[:i]) + i * GAP_PX for i in range(columns)]
        bars = BAR_PX if any(row.bar for row in sheet.rows) else 0
        self.right = self.lefts[-1] + self.widths[-1]
        self.width = max(self.right + bars, MARGIN_PX + words_px(sheet)) + MARGIN_PX
        self.head = MARGIN_PX + TITLE_PX + SUBTITLE_PX * (1 + sheet.subtitle.count("\n"))
        top, self.tops = self.head + (HEAD_PX if sheet.heads else GAP_PX), []
        for row, height in zip(sheet.rows, self.heights, strict=True):
            top += HEAD_PX if any(panel and panel.head for panel in row.panels) else 0
            self.tops.append(top)
            captions = any(panel and panel.caption for panel in row.panels)
            top += height + (CAPTION_PX if captions else 0) + GAP_PX
        self.legends = []
        for entries in sheet.legends:
            self.legends.append(top)
            top += LEGEND_PX * -(-len(entries) // sheet.legend_columns) + GAP_PX
        self.notes = top
        self.height = self.notes + LINE_PX * len(sheet.notes) + MARGIN_PX

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Figure coordinates of a pixel position."""
        return x / self.width, 1 - y / self.height

    def box(self, left: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
        """Figure coordinates of a rectangle, as ``add_axes`` wants them."""
        return left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height


def words_px(sheet: Sheet) -> int:
    """Width of the longest line or row of a legend: a figure of few pictures must not cut its words."""
    lines = [(sheet.title, SIZES["title"], "bold")]
    lines += [(line, SIZES["caption"], "normal") for line in (*sheet.subtitle.split("\n"), *sheet.notes)]
    legends = [_legend_px([words for _, words in entries], sheet.legend_columns) for entries in sheet.legends]
    return max(*(_line_px(*line) for line in lines), *legends, 0)


def _legend_px(words: Sequence[str], columns: int) -> int:
    filled = np.array_split([_line_px(text, SIZES["caption"], "normal") for text in words], min(columns, len(words)))
    return sum(int(column.max()) for column in filled) + ceil(len(filled) * LEGEND_EM * SIZES["caption"] * DPI / 72)


def _line_px(line: str, points: float, weight: str) -> int:
    if not line.strip():
        return 0
    return ceil(TextPath((0, 0), line, prop=FontProperties(size=points, weight=weight)).get_extents().x1 * DPI / 72)


def _words(figure: Figure, layout: _Layout, sheet: Sheet) -> None:
    text = {"color": INK, "va": "top", "ha": "left"}
    figure.text(*layout.at(MARGIN_PX, MARGIN_PX), sheet.title, fontsize=SIZES["title"], weight="bold", **text)
    muted = text | {"color": MUTED, "fontsize": SIZES["caption"]}
    figure.text(*layout.at(MARGIN_PX, MARGIN_PX + TITLE_PX), sheet.subtitle, linespacing=1.5, **muted)
    for head, left, width in zip(sheet.heads, layout.lefts, layout.widths, strict=False):
        place = layout.at(left + width / 2, layout.head + HEAD_PX - 8)
        figure.text(*place, head, fontsize=SIZES["head"], color=INK, ha="center", va="bottom")
    for number, note in enumerate(sheet.notes):
        figure.text(*layout.at(MARGIN_PX, layout.notes + number * LINE_PX), note, **muted)


def _row(figure: Figure, layout: _Layout, row: Row, top: float, height: float) -> None:
    for panel, left, width in zip(row.panels, layout.lefts, layout.widths, strict=False):
        if panel:
            _panel(figure, layout, panel, left + (width - panel.picture.width) // 2, top, height)
    if row.label:
        place = layout.at(layout.lefts[0] - 16, top + height / 2)
        style = {"ha": "right", "va": "center", "rotation": 90, "color": INK, "linespacing": 1.3}
        figure.text(*place, row.label, fontsize=SIZES["label"], multialignment="center", **style)
    if row.bar:
        _bar(figure, layout, row.bar, top, height)


def _panel(figure: Figure, layout: _Layout, panel: Panel, left: float, top: float, height: float) -> None:
    size = panel.picture.size
    axis = figure.add_axes(layout.box(left, top, *size))
    axis.imshow(np.asarray(panel.picture), interpolation="none", extent=(-0.5, size[0] - 0.5, size[1] - 0.5, -0.5))
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set(color=EDGE, linewidth=0.5)
    if panel.mark_px:
        axis.plot(*panel.mark_px, "o", ms=7, mfc="none", mec="black", mew=2.2)
        axis.plot(*panel.mark_px, "o", ms=7, mfc="none", mec="white", mew=1.1)
    if panel.head:
        place = layout.at(left + size[0] / 2, top - 8)
        figure.text(*place, panel.head, fontsize=SIZES["head"], color=INK, ha="center", va="bottom")
    if panel.caption:
        place = layout.at(left + size[0] / 2, top + height + 9)
        figure.text(*place, panel.caption, fontsize=SIZES["caption"], color=INK, ha="center", va="top")


def _bar(figure: Figure, layout: _Layout, bar: Bar, top: float, height: float) -> None:
    axis = figure.add_axes(layout.box(layout.right + 16, top, 18, height))
    extend = {"extend": "min", "extendfrac": 0.05} if bar.clipped else {}
    colours = ScalarMappable(Normalize(bar.low, bar.high), colormaps[bar.colours])
    numbers = FuncFormatter(lambda value, _: signed(value, 2))
    scale = figure.colorbar(colours, cax=axis, ticks=_ticks(bar), format=numbers, **extend)
    scale.outline.set(edgecolor=EDGE, linewidth=0.5)
    scale.ax.tick_params(labelsize=SIZES["small"], colors=INK, width=0.5, length=2, pad=2)
    scale.set_label(bar.label, fontsize=SIZES["small"], color=INK, labelpad=3)


def _ticks(bar: Bar) -> list[float]:
    """Both ends, and round values that do not crowd them."""
    span = bar.high - bar.low
    inner = MaxNLocator(4).tick_values(bar.low, bar.high)
    return [bar.low, *(value for value in inner if bar.low + 0.16 * span < value < bar.high - 0.16 * span), bar.high]


def signed(value: float, decimals: int = 0) -> str:
    """A number with a true minus sign."""
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def _legend(figure: Figure, layout: _Layout, entries: Sequence[tuple[str, str]], columns: int, top: float) -> None:
    handles = [Patch(facecolor=colour, edgecolor=EDGE, linewidth=0.4, label=words) for colour, words in entries]
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=layout.at(MARGIN_PX, top), ncols=columns, frameon=False,
        fontsize=SIZES["caption"], labelcolor=INK, handlelength=1, handleheight=1, borderpad=0, borderaxespad=0,
        columnspacing=LEGEND_EM - 1.5, handletextpad=0.5,
    )  # fmt: skip
