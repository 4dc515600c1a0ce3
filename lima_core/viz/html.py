"""One HTML file that needs nothing else: pictures are data URIs, style is inside, there is no script.

Functions that end in HTML take plain text and escape it; a parameter named ``html`` is taken as it is.
"""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape

from PIL import Image

from lima_core.viz.style import STYLE

__all__ = [
    "NONE",
    "colour_bar",
    "data_uri",
    "details",
    "drawings",
    "escape",
    "legend",
    "note",
    "page",
    "pictures",
    "section",
    "table",
]


NONE = "\N{EN DASH}"
"""In a cell without a value."""


def page(title: str, body: Iterable[str]) -> str:
    """The whole file."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">{_POLICY}'
    head += f"<title>{escape(title)}</title><style>{STYLE}</style>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><main>\n{"".join(body)}</main></body></html>\n'


_POLICY = (
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
)
"""Nothing may be loaded from anywhere, even by mistake."""


def section(title: str, *html: str) -> str:
    """A headed part of the page."""
    return f"<section><h2>{escape(title)}</h2>\n{''.join(html)}</section>\n"


def note(text: str) -> str:
    """A plain sentence, also for what is missing and why."""
    return f'<p class="note">{escape(text)}</p>\n'


def table(header: Sequence[str], rows: Iterable[Sequence[str]], columns: str, foot: int = 0) -> str:
    """A table that scrolls inside itself where the window is too narrow.

    Args:
        header: plain text.
        rows: plain text, one string per cell.
        columns: a letter each: ``l`` words, ``w`` words that may take several lines, ``n`` numbers.
        foot: how many of the last rows are totals.
    """
    head = _cells("th", header, columns)
    lines = [_cells("td", row, columns) for row in rows]
    kinds = ["<tr>"] * (len(lines) - foot) + ['<tr class="total">'] * foot
    body = "".join(f"{kind}{line}</tr>\n" for kind, line in zip(kinds, lines, strict=True))
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>\n'


def _cells(tag: str, row: Sequence[str], columns: str) -> str:
    return "".join(f'<{tag} class="{column}">{escape(text)}</{tag}>' for text, column in zip(row, columns, strict=True))


def details(title: str, html: str, is_open: bool = False) -> str:
    """A part that unfolds."""
    return f"<details{' open' if is_open else ''}><summary>{escape(title)}</summary>\n{html}</details>\n"


def data_uri(image: Image.Image, photo: bool) -> str:
    """The image inside the page: JPEG for photographs, PNG for drawings, whose few colours it keeps exactly."""
    stream = io.BytesIO()
    if photo:
        image.save(stream, "JPEG", quality=87, subsampling=0, optimize=True)
    else:
        image.save(stream, "PNG", optimize=True)
    kind = "jpeg" if photo else "png"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def drawings(svg: Iterable[str], caption: str, columns: int = 3) -> str:
    """Drawings beside each other, ``columns`` in a row of a wide window, with one caption below."""
    row = f'<div class="pictures c{columns}">{"".join(svg)}</div>'
    return f"<figure>{row}<figcaption>{escape(caption)}</figcaption></figure>\n"


def pictures(named: Sequence[tuple[str, Image.Image, bool]], columns: int) -> str:
    """Pictures beside each other, fewer in a row on a narrow window.

    Args:
        named: caption, picture, whether it is a photograph.
        columns: in a row of a wide window.
    """
    cells = "".join(
        f'<figure><img src="{data_uri(image, photo)}" width="{image.width}" height="{image.height}" '
        f'alt="{escape(caption, quote=True)}"><figcaption>{escape(caption)}</figcaption></figure>\n'
        for caption, image, photo in named
    )
    return f'<div class="pictures c{columns}">{cells}</div>\n'


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """Swatches with names; each entry is a CSS colour and a plain text."""
    items = "".join(f'<li><i style="background:{colour}"></i>{escape(text)}</li>' for colour, text in entries)
    return f'<ul class="legend">{items}</ul>\n'


def colour_bar(colours: Iterable[str], low: str, high: str) -> str:
    """A strip of CSS colours between what its two ends mean."""
    strip = f"linear-gradient(90deg,{','.join(colours)})"
    return f'<p class="bar">{escape(low)}<i style="background:{strip}"></i>{escape(high)}</p>\n'
