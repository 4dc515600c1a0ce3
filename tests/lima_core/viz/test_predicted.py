import numpy as np

from lima_core.types import IGNORE
from lima_core.viz import palette
from lima_core.viz.bev import View
from lima_core.viz.predicted import class_legend, scan_pictures, who_is_right

CLASSES = ("car", "road", "tree")
POINTS = np.array([[3.0, 0, 0], [0, 4.0, 0], [-5.0, 0, 0], [0, -6.0, 0], [7.0, 7.0, 0]])
LABELS = np.array([0, 1, 1, 0, IGNORE], np.uint8)
GOOD = np.array([0, 1, 1, 1, 0], np.uint8)
POOR = np.array([0, 0, 0, 1, 0], np.uint8)
VIEW = View(10.0, 80)


def test_truth_predictions_and_comparison() -> None:
    text = scan_pictures(POINTS, LABELS, {"LiMA": GOOD, "random": POOR}, CLASSES, VIEW)
    assert text.count("<img") == 4
    assert "LiMA: the class of 75.0 % of" in text and "random: the class of 25.0 % of" in text


def test_shares_count_labelled_points_only() -> None:
    _, _, legend = who_is_right(POINTS, {"LiMA": GOOD, "random": POOR}, LABELS, VIEW)
    for said in ("both right: 25.0 %", "only LiMA right: 50.0 %", "only random right: 0.0 %", "both wrong: 25.0 %"):
        assert said in legend


def test_without_labels_or_with_one_prediction() -> None:
    text = scan_pictures(POINTS, None, {"LiMA": GOOD, "random": POOR}, CLASSES, VIEW)
    assert text.count("<img") == 2 and "The ground truth is missing" in text
    assert scan_pictures(POINTS, LABELS, {"LiMA": GOOD}, CLASSES, VIEW).count("<img") == 2


def test_a_scan_without_a_single_labelled_point() -> None:
    nothing = np.full(5, IGNORE, np.uint8)
    assert "0.0 % of labelled points" in scan_pictures(POINTS, nothing, {"a": GOOD, "b": POOR}, CLASSES, VIEW)


def test_legend_names_what_occurs() -> None:
    legend = class_legend([LABELS, GOOD], CLASSES)
    assert "car" in legend and "road" in legend and "tree" not in legend
    assert palette.css(palette.UNLABELLED) in legend and "no class" in legend
