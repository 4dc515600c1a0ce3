import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from lima_core.viz import html

EVIL = "<script>alert('x')</script> & \"quotes\""
VOID = {"meta", "img", "br"}


class Balanced(HTMLParser):
    """Collects tags and checks that each is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.seen, self.text = [], [], []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(text: str) -> Balanced:
    parser = Balanced()
    parser.feed(text)
    assert not parser.open
    return parser


def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 8, 3)).astype(np.uint8))


@pytest.mark.parametrize(
    "text",
    [
        html.section(EVIL, html.note(EVIL)),
        html.table([EVIL, "n"], [[EVIL, "1"]], "ln"),
        html.details(EVIL, ""),
        html.drawings([], EVIL),
        html.pictures([(EVIL, image(), False)], 2),
        html.legend([("#ffffff", EVIL)]),
        html.colour_bar(["#000000", "#ffffff"], EVIL, EVIL),
        html.page(EVIL, []),
    ],
)
def test_plain_text_is_escaped_and_tags_are_balanced(text: str) -> None:
    parser = parsed(text)
    assert "script" not in parser.seen
    assert EVIL in "".join(parser.text) or EVIL in text.replace("&quot;", '"').replace("&#x27;", "'")


def test_drawings_keep_their_pixels_and_photographs_almost() -> None:
    picture = image()
    for photo, tolerance in ((False, 0), (True, 40)):
        uri = html.data_uri(picture, photo)
        kind, _, data = uri.partition(";base64,")
        assert kind == ("data:image/jpeg" if photo else "data:image/png")
        found = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)
        assert np.abs(found - np.asarray(picture)).max() <= tolerance


def test_table_marks_words_numbers_and_totals() -> None:
    text = html.table(["a", "b"], [["x", "1"], ["sum", "2"]], "ln", foot=1)
    assert text.count('class="n"') == 3
    assert '<tr class="total"><td class="l">sum</td>' in text


def test_table_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        html.table(["a", "b"], [["only one"]], "ln")


def test_page_loads_nothing() -> None:
    text = html.page("title", [html.pictures([("one", image(), True)], 1)])
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", text)
    assert "url(" not in text and "@import" not in text
    assert "default-src 'none'" in text
