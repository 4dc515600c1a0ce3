import re
import xml.etree.ElementTree as ElementTree

from lima_core.viz.svg import SERIES, TEXT, new_figure, to_svg


def drawn(name: str = "one") -> str:
    figure, axis = new_figure(3, 2)
    axis.plot([0, 1], [1, 0], color=SERIES[1], label="loss")
    axis.set_title("a title")
    axis.legend(labelcolor=TEXT)
    return to_svg(figure, name, "a line that falls")


def test_is_one_well_formed_element_with_a_description() -> None:
    root = ElementTree.fromstring(drawn())
    assert root.tag.endswith("svg")
    assert root.attrib["aria-label"] == "a line that falls"
    assert root.attrib["viewBox"].startswith("0 0 216 ")
    assert "width" not in root.attrib


def test_colours_are_the_pages_own_and_text_is_paths() -> None:
    text = drawn()
    assert "var(--s1)" in text and "var(--muted)" in text and "var(--line)" in text
    assert "#a000" not in text
    assert "<text" not in text


def test_same_figure_same_text() -> None:
    assert drawn() == drawn()


def test_two_figures_share_no_id_and_refer_to_their_own() -> None:
    ids = [set(re.findall(r'id="([^"]+)"', drawn(name))) for name in ("one", "two")]
    assert ids[0] and not ids[0] & ids[1]
    referred = set(re.findall(r'(?:href="|url\()#([^")]+)', drawn("one")))
    assert referred and referred <= ids[0]
