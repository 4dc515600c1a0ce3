import numpy as np
import pytest
from PIL import Image

from lima_core.viz.sheet import Bar, Panel, Row, Sheet, draw_sheet, signed


def noise(seed: int, width: int = 240, height: int = 120) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8))


def found(picture: Image.Image, panel: Image.Image) -> list[tuple[int, int]]:
    """Where the inside of a panel stands in a figure, pixel for pixel; its edge is covered by a frame."""
    whole, inside = np.asarray(picture), np.asarray(panel)[2:-2, 2:-2]
    rows, columns = np.nonzero((whole == inside[0, 0]).all(axis=2))
    height, width = inside.shape[:2]
    return [
        (int(row), int(column))
        for row, column in zip(rows, columns, strict=True)
        if np.array_equal(whole[row : row + height, column : column + width], inside)
    ]


def sheet(**changes: object) -> Sheet:
    panels = [Panel(noise(1), "one"), Panel(noise(2), "two")]
    return Sheet(
        **{"title": "Title", "subtitle": "a\nb", "rows": [Row(panels, "row"), Row([panels[0], None])]} | changes
    )


def test_every_picture_is_shown_pixel_for_pixel() -> None:
    drawn = draw_sheet(sheet())
    (first, below), (second,) = found(drawn, noise(1)), found(drawn, noise(2))
    assert first[0] == second[0] < below[0] and first[1] == below[1] < second[1]


def test_equal_sheets_give_equal_pictures() -> None:
    panels, bar = [Panel(noise(1), mark_px=(30, 40)), Panel(noise(2), head="h")], Bar(-0.3, 1, "cosine", clipped=True)
    full = {
        "heads": ("a", "b"), "notes": ("note",), "legends": [[("#ff0000", "red")]],
        "rows": [Row(panels, "x", bar)],
    }  # fmt: skip
    assert draw_sheet(sheet(**full)).tobytes() == draw_sheet(sheet(**full)).tobytes()
    assert draw_sheet(sheet(**full)).tobytes() != draw_sheet(sheet()).tobytes()


@pytest.mark.parametrize(
    "words",
    [
        {"title": "Title " * 20}, {"subtitle": "short\n" + "subtitle " * 20}, {"notes": ("short", "note " * 30)},
        {"legends": [[("#ff0000", "a very long legend")] * 12]},
    ],
)  # fmt: skip
def test_words_are_never_cut(words: dict) -> None:
    drawn = np.asarray(draw_sheet(sheet(**words)))
    assert drawn.shape[1] > draw_sheet(sheet()).width and (drawn[:, -12:] == 255).all()


def test_a_mark_is_a_ring_around_its_place() -> None:
    grey = Image.new("RGB", (240, 120), (128, 128, 128))
    plain, marked = (
        np.asarray(draw_sheet(sheet(rows=[Row([Panel(grey, mark_px=mark)])]))).astype(int) for mark in (None, (70, 50))
    )
    rows, columns = np.nonzero(np.abs(plain - marked).max(axis=2) > 10)
    top, left = found(Image.fromarray(plain.astype(np.uint8)), grey)[0]
    middle = ((rows.min() + rows.max()) / 2 - (top - 2), (columns.min() + columns.max()) / 2 - (left - 2))
    assert middle == pytest.approx((50, 70), abs=1)
    assert np.array_equal(marked[top - 2 + 50, left - 2 + 70], [128] * 3)


def test_numbers_have_a_true_minus_and_no_negative_zero() -> None:
    assert signed(-0.25, 2) == "\N{MINUS SIGN}0.25"
    assert signed(-0.001, 2) == "0.00" and signed(1.0, 2) == "1.00"
