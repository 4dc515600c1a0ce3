import pytest

from lima_core.viz.quality import percent, quality_by_window


def rows(points: float | None, pixels: float | None) -> list[dict]:
    return [
        {"frames": n, "coverage": 0.8 + n / 100, "depth": 1.5 * n, "purity_points": points, "purity_pixels": pixels}
        for n in (1, 2)
    ]


@pytest.mark.parametrize(
    ("points", "pixels", "panels", "said"),
    [
        (0.99, 0.95, 3, None),
        (0.99, None, 3, "Purity by pixels is not known"),
        (None, None, 2, "the bank's frames have no labels".replace("'", "&#x27;")),
    ],
)
def test_a_panel_for_what_is_known_and_a_sentence_for_what_is_not(
    points: float | None, pixels: float | None, panels: int, said: str | None
) -> None:
    text = quality_by_window(rows(points, pixels))
    assert text.count("<svg") == panels
    assert ("is not known" in text) == (said is not None)
    assert said is None or said in text
    assert '<td class="n">81.00</td><td class="n">1.50</td>' in text


def test_percent() -> None:
    assert percent(0.98765) == "98.77"
    assert percent(None) not in ("0.00", "None", "")
