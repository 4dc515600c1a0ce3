from dataclasses import replace

import numpy as np

from lima_core.types import IGNORE
from lima_core.viz import palette
from lima_core.viz.bev import View, draw_bev
from lima_core.viz.errors import Scan, errors_sheet, gain_text, score_text

CLASSES = ("car", "road", "tree")
VIEW = View(20.0, 201)
SIDE = np.array([(x, y) for x in range(-18, 19, 4) for y in range(-18, 19, 4)], float)
POINTS = np.concatenate([SIDE, np.zeros((len(SIDE), 1))], axis=1)
"""So far apart that no point covers another or the mark of the vehicle."""


def scan_of(names: tuple[str, ...] = ("random", "LiMA")) -> Scan:
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, IGNORE], len(POINTS)).astype(np.uint8)
    predictions = {name: rng.integers(0, 3, len(POINTS)).astype(np.uint8) for name in names}
    return Scan("scene, key frame 1", POINTS, labels, predictions, VIEW)


def count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(picture) == colour).all(axis=2).sum())


def test_as_many_red_points_as_wrong_ones() -> None:
    scan = scan_of()
    ids, judged = scan.predictions["random"], scan.labels != IGNORE
    picture = draw_bev(POINTS, palette.error_colours(ids, scan.labels), VIEW, 0)
    assert count(picture, palette.WRONG) == ((ids != scan.labels) & judged).sum() > 10
    assert count(picture, palette.RIGHT) == (ids == scan.labels).sum() > 10
    assert count(picture, palette.UNLABELLED) == (~judged).sum() > 10


def test_scores_beneath_a_map_are_those_of_its_scan() -> None:
    labels, ids = np.array([0, 0, 1, 1, IGNORE], np.uint8), np.array([0, 1, 1, 1, 2], np.uint8)
    iou_car, iou_road = 1 / 2, 2 / 3
    assert score_text(ids, labels, CLASSES) == f"accuracy 75.0 %, mIoU {50 * (iou_car + iou_road):.1f} %"
    assert score_text(ids[-1:], labels[-1:], CLASSES) == "no labelled point"
    assert gain_text(np.array([1, 0, 1, 0, 0]), ids, labels) == "corrects 50.0 %, spoils 25.0 %"


def test_a_row_per_scan_and_a_column_per_start() -> None:
    sheet = errors_sheet([scan_of(), scan_of()], CLASSES, "where")
    assert [len(row.panels) for row in sheet.rows] == [4, 4]
    assert sheet.heads == ("Ground truth", "Random initialisation", "LiMA", "Which one is right")
    words = [text for _, text in sheet.legends[1]]
    assert words == ["right", "wrong", "only LiMA right", "only random right", "both right", "both wrong"]
    alone = errors_sheet([scan_of(("LiMA",))], CLASSES, "where")
    assert alone.heads == ("Ground truth", "LiMA") and len(alone.rows[0].panels) == 2


def test_widths_are_told_row_by_row_where_they_differ() -> None:
    near = scan_of()
    assert "rings every 10 m, 40 m wide." in errors_sheet([near, near], CLASSES, "where").notes[1]
    far = replace(near, view=View(30.0, 201))
    assert "rings every 10 m; 40 m, 60 m wide, from the top row" in errors_sheet([near, far], CLASSES, "where").notes[1]


def test_the_comparison_is_between_the_named_two() -> None:
    scan = scan_of()
    random, lima = (scan.predictions[name] == scan.labels for name in ("random", "LiMA"))
    picture = errors_sheet([scan], CLASSES, "where").rows[0].panels[3].picture
    gained = (lima & ~random & (scan.labels != IGNORE)).sum()
    one_point = count(draw_bev(POINTS[:1], np.full((1, 3), 77, np.uint8), VIEW, 1.5), (77, 77, 77))
    assert count(picture, palette.GAINED) == gained * one_point
