import numpy as np
import pytest

from lima_core.viz.curves import MIN_SPAN, Curve, draw_curves, draw_depth, draw_shares, percent_limits, running_mean

ROWS = [
    {"frames": n, "coverage": 0.9 + 0.01 * n, "depth": float(n), "purity_points": 0.99, "purity_pixels": None}
    for n in range(1, 5)
]


def curve(label: str, num_steps: int, start: float = 1.0) -> Curve:
    step = np.arange(1, num_steps + 1)
    return Curve(label, step, start / step)


def test_running_mean_is_the_mean_of_the_window() -> None:
    values = np.random.default_rng(0).normal(size=30)
    wanted = [values[max(i - 4, 0) : i + 5].mean() for i in range(30)]
    np.testing.assert_allclose(running_mean(values, 4), wanted)


def test_curves_of_one_label_share_colour_and_legend_entry() -> None:
    figure = draw_curves("probe", [curve("LiMA", 5), curve("random", 5, 2.0), curve("LiMA", 5, 3.0)])
    (axis,) = figure.axes
    colours = [line.get_color() for line in axis.lines]
    assert colours[0] == colours[2] != colours[1]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["LiMA", "random"]
    assert (axis.get_xlabel(), axis.get_title()) == ("optimiser step", "probe")


def test_a_single_training_needs_no_legend_and_a_long_one_is_smoothed() -> None:
    (axis,) = draw_curves("distillation", [curve("distillation", 200)]).axes
    assert axis.get_legend() is None
    assert len(axis.lines) == 2


def test_a_single_step_is_a_dot_at_a_whole_number() -> None:
    figure = draw_curves("distillation", [curve("distillation", 1)])
    (axis,) = figure.axes
    assert axis.lines[0].get_marker() == "o"
    figure.draw_without_rendering()
    assert all(float(tick).is_integer() for tick in axis.get_xticks())


def test_shares_are_drawn_in_per_cent() -> None:
    (axis,) = draw_shares(ROWS, {"coverage": "coverage"}, "coverage, % of points").axes
    np.testing.assert_allclose(axis.lines[0].get_ydata(), [91, 92, 93, 94])
    assert axis.get_ylabel() == "coverage, % of points"
    assert axis.get_legend() is None


def test_depth_starts_at_zero_and_no_dot_is_cut() -> None:
    (axis,) = draw_depth(ROWS).axes
    low, high = axis.get_ylim()
    assert low == 0 and high > 4.2


@pytest.mark.parametrize("values", [[99.9, 99.8], [0.0, 0.1], [50.0, 50.0], [10.0, 90.0], [np.nan, 42.0]])
def test_limits_hold_the_values_and_exaggerate_nothing(values: list[float]) -> None:
    low, high = percent_limits(values)
    assert low < np.nanmin(values) and high > np.nanmax(values)
    assert high - low >= MIN_SPAN
    assert low >= -1 and high <= 101
