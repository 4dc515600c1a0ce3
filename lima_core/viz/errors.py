"""Error maps: scans from above, correct grey and wrong red, for every start of the same training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lima_core.metrics.segmentation import confusion_matrix, iou_of
from lima_core.types import IGNORE
from lima_core.viz import palette
from lima_core.viz.bev import View, draw_bev
from lima_core.viz.sheet import Panel, Row, Sheet

SIZE_PX = 480
RADIUS_PX = 1.5
START = {"random": "Random initialisation"}
"""Heads of columns that are not names of methods."""


@dataclass(frozen=True)
class Scan:
    """One scan with what is known and what is predicted."""

    name: str
    """Scene and frame, one or two lines."""
    points: np.ndarray
    """(N, >=3) metres, LiDAR frame."""
    labels: np.ndarray
    """(N,) uint8 train ids."""
    predictions: Mapping[str, np.ndarray]
    """(N,) uint8 train ids by where the training started from; the same names in every scan."""
    view: View


def errors_sheet(scans: Sequence[Scan], classes: Sequence[str], subtitle: str) -> Sheet:
    """The figure: a row per scan; truth, an error map per prediction and, of two, which one is right.

    Args:
        scans: one at least.
        classes: names by train id.
        subtitle: where the scans come from and what was trained.
    """
    names = list(scans[0].predictions)
    both = ["Which one is right"] if len(names) == 2 else []
    return Sheet(
        title="Errors by point",
        subtitle=subtitle,
        heads=("Ground truth", *(START.get(name, name) for name in names), *both),
        rows=[Row(_panels(scan, classes, names), scan.name) for scan in scans],
        legends=[_class_legend(scans, classes), _error_legend(names)],
        notes=(
            "mIoU: mean over the classes that occur in the truth or the prediction of this one scan. "
            "Points without a class are not judged.",
            _seen_from(scans),
        ),
    )  # fmt: skip


def _seen_from(scans: Sequence[Scan]) -> str:
    """``From above: the x axis points up, rings every 10 m, 80 m wide.``; widths row by row where they differ."""
    views = dict.fromkeys(scan.view.words for scan in scans)
    if len(views) == 1:
        return f"From above: {next(iter(views))}."
    widths = ", ".join(f"{2 * scan.view.radius_m:g} m" for scan in scans)
    return f"From above: {scans[0].view.words_but_width}; {widths} wide, from the top row to the bottom one."


def _panels(scan: Scan, classes: Sequence[str], names: Sequence[str]) -> list[Panel]:
    judged = int((scan.labels != IGNORE).sum())
    panels = [_panel(scan, palette.label_colours(scan.labels, classes), f"{judged} labelled points")]
    for name in names:
        ids = scan.predictions[name]
        panels.append(_panel(scan, palette.error_colours(ids, scan.labels), score_text(ids, scan.labels, classes)))
    if len(names) == 2:
        first, second = (scan.predictions[name] for name in names)
        rgb = palette.comparison_colours(second, first, scan.labels)
        panels.append(_panel(scan, rgb, f"{names[1]} {gain_text(first, second, scan.labels)}"))
    return panels


def _panel(scan: Scan, rgb: np.ndarray, caption: str) -> Panel:
    return Panel(draw_bev(scan.points, rgb, scan.view, RADIUS_PX), caption)


def score_text(ids: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> str:
    """``accuracy 71.2 %, mIoU 23.4 %`` of one scan."""
    judged = labels != IGNORE
    if not judged.any():
        return "no labelled point"
    mean = iou_of(confusion_matrix(labels, ids, len(classes)), classes).mean
    return f"accuracy {100 * (ids == labels)[judged].mean():.1f} %, mIoU {100 * mean:.1f} %"


def gain_text(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> str:
    """``corrects 21.0 %, spoils 3.4 %``: labelled points on which only the second prediction is right, or the first."""
    judged = labels != IGNORE
    if not judged.any():
        return "no labelled point"
    a, b = (first == labels)[judged], (second == labels)[judged]
    return f"corrects {100 * (~a & b).mean():.1f} %, spoils {100 * (a & ~b).mean():.1f} %"


def _class_legend(scans: Sequence[Scan], classes: Sequence[str]) -> list[tuple[str, str]]:
    occurring = np.unique(np.concatenate([scan.labels for scan in scans]))
    colours = palette.class_colours(classes)
    found = [(palette.css(colours[n]), classes[n].replace("_", " ")) for n in occurring if n != IGNORE]
    return [*found, *([(palette.css(palette.UNLABELLED), "no class")] if IGNORE in occurring else [])]


def _error_legend(names: Sequence[str]) -> list[tuple[str, str]]:
    entries = [(palette.RIGHT, "right"), (palette.WRONG, "wrong")]
    if len(names) == 2:
        entries += [(palette.GAINED, f"only {names[1]} right"), (palette.LOST, f"only {names[0]} right")]
        entries += [(palette.BOTH_RIGHT, "both right"), (palette.BOTH_WRONG, "both wrong")]
    return [(palette.css(colour), words) for colour, words in entries]
