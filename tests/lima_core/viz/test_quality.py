import pytest

from lima_core.viz.quality import percent, quality_by_group, quality_by_window


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


def group(points: str, share: float, pixels: float | None = None) -> dict:
    return {"points": points, "share": share, "coverage": 0.7123, "purity_points": 0.98, "purity_pixels": pixels}


def test_a_row_for_every_group_of_points_and_a_dash_for_what_is_not_known() -> None:
    text = quality_by_group([group("all", 1.0, 0.95), group("moving", 0.012), group("0-10 m", 0.5)], 6)
    assert text.count("<tr>") == 4
    dash = '<td class="n">\N{EN DASH}</td>'
    numbers = '<td class="n">1.20</td><td class="n">71.23</td><td class="n">98.00</td>'
    assert f'<td class="l">moving</td>{numbers}{dash}' in text
    assert '<td class="n">100.00</td><td class="n">71.23</td><td class="n">98.00</td><td class="n">95.00</td>' in text
    assert "in a window of 6 key frames" in text


@pytest.mark.parametrize(("names", "known"), [(("all", "static"), True), (("all", "0-10 m"), False)])
def test_static_and_moving_are_explained_where_they_are_known(names: tuple[str, ...], known: bool) -> None:
    text = quality_by_group([group(name, 0.5) for name in names], 1)
    assert ("which a synthetic world knows" in text) == known
    assert ("Which points move is not known" in text) != known
    assert "in a window of 1 key frame." in text


def test_percent() -> None:
    assert percent(0.98765) == "98.77"
    assert percent(None) not in ("0.00", "None", "")
