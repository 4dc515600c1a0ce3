"""One scan from above by class: truth, predictions, and which prediction is right."""

from collections.abc import Mapping, Sequence

import numpy as np

from lima_core.types import IGNORE
from lima_core.viz import html, palette
from lima_core.viz.bev import View, draw_bev

RADIUS_PX = 1.5


def scan_pictures(
    points: np.ndarray,
    labels: np.ndarray | None,
    predictions: Mapping[str, np.ndarray],
    classes: Sequence[str],
    view: View,
) -> str:
    """HTML: legend, one picture for the truth and each prediction, and the comparison of two.

    Args:
        points: (N, >=3) metres, LiDAR frame.
        labels: (N,) uint8 train ids, or None.
        predictions: (N,) uint8 train ids by a name for each model.
        classes: names by train id.
        view: square and direction.
    """
    shown = ([] if labels is None else [(f"Ground truth; {view.words}", labels)]) + [
        (f"Prediction, {name}{_right(ids, labels)}", ids) for name, ids in predictions.items()
    ]
    named = [
        (caption, draw_bev(points, palette.label_colours(ids, classes), view, RADIUS_PX), False)
        for caption, ids in shown
    ]
    parts = [class_legend([ids for _, ids in shown], classes)]
    if labels is None:
        parts.append(html.note("The ground truth is missing: this frame has no labels."))
    elif len(predictions) == 2:
        caption, picture, legend = who_is_right(points, predictions, labels, view)
        return "".join([*parts, html.pictures([*named, (caption, picture, False)], 2), legend])
    return "".join([*parts, html.pictures(named, 2)])


def _right(ids: np.ndarray, labels: np.ndarray | None) -> str:
    if labels is None or not (labels != IGNORE).any():
        return ""
    judged = labels != IGNORE
    return f": the class of {100 * (ids == labels)[judged].mean():.1f} % of this scan's labelled points is right"


def class_legend(ids: Sequence[np.ndarray], classes: Sequence[str]) -> str:
    """Swatches of the classes that occur."""
    occurring = np.unique(np.concatenate(list(ids)))
    colours = palette.class_colours(classes)
    entries = [(palette.css(colours[number]), classes[number]) for number in occurring if number != IGNORE]
    entries += [(palette.css(palette.UNLABELLED), "no class")] if IGNORE in occurring else []
    return html.legend(entries)


def who_is_right(points: np.ndarray, predictions: Mapping[str, np.ndarray], labels: np.ndarray, view: View) -> tuple:
    """Caption, picture and legend of two predictions compared; the legend tells the shares of labelled points."""
    (first, second), (first_ids, second_ids) = predictions, predictions.values()
    judged = labels != IGNORE
    a, b = (first_ids == labels)[judged], (second_ids == labels)[judged]
    cases = [
        (palette.BOTH_RIGHT, "both right", a & b),
        (palette.GAINED, f"only {first} right", a & ~b),
        (palette.LOST, f"only {second} right", ~a & b),
        (palette.BOTH_WRONG, "both wrong", ~a & ~b),
    ]
    legend = [
        (palette.css(colour), f"{text}: {100 * case.mean() if case.size else 0:.1f} % of labelled points")
        for colour, text, case in cases
    ]
    rgb = palette.comparison_colours(first_ids, second_ids, labels)
    return (
        "Which prediction is right, point by point (colours below)",
        draw_bev(points, rgb, view, RADIUS_PX),
        (html.legend(legend)),
    )
