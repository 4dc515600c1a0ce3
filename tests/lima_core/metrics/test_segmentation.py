"""Confusion matrix and IoU against brute force and against nuscenes-devkit's own class."""

import math

import numpy as np
import pytest
from nuscenes.eval.lidarseg.utils import ConfusionMatrix

from lima_core.errors import DataError
from lima_core.metrics.segmentation import IoU, class_iou, confusion_matrix, iou_of, same_iou
from lima_core.types import IGNORE


def random_points(seed: int, present: int, num_points: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, present, num_points).astype(np.uint8)
    predictions = np.where(rng.random(num_points) < 0.5, labels, rng.integers(0, present, num_points)).astype(np.uint8)
    labels[rng.random(num_points) < 0.2] = IGNORE
    return labels, predictions


@pytest.mark.parametrize("present", [1, 5, 16])
def test_agrees_with_the_devkit(present: int) -> None:
    theirs = ConfusionMatrix(17, ignore_idx=0)
    ours = np.zeros((16, 16), dtype=np.int64)
    for seed in range(3):  # several frames into one matrix
        labels, predictions = random_points(seed, present)
        theirs.update(np.where(labels == IGNORE, 0, labels + 1), predictions + 1)
        ours += confusion_matrix(labels, predictions, 16)
    assert np.array_equal(ours, theirs.global_cm[1:, 1:])
    np.testing.assert_allclose(class_iou(ours), theirs.get_per_class_iou()[1:], rtol=0, atol=1e-12)
    assert iou_of(ours, [str(i) for i in range(16)]).mean == pytest.approx(theirs.get_mean_iou(), abs=1e-12)


def test_agrees_with_the_devkit_on_billions_of_points() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 2**33, (4, 4))
    theirs = ConfusionMatrix(5, ignore_idx=0)
    theirs.global_cm = np.pad(counts, ((1, 0), (1, 0)))
    assert np.array_equal(class_iou(counts), theirs.get_per_class_iou()[1:])


def test_brute_force() -> None:
    labels, predictions = random_points(7, 4)
    values = class_iou(confusion_matrix(labels, predictions, 4))
    pairs = [(a, b) for a, b in zip(labels.tolist(), predictions.tolist(), strict=True) if a != IGNORE]
    for k in range(4):
        hits = sum(a == k and b == k for a, b in pairs)
        union = sum(a == k or b == k for a, b in pairs)
        assert values[k] == pytest.approx(hits / union, abs=1e-9)


def test_absent_and_missed_classes() -> None:
    labels = np.array([0, 0, 1, IGNORE], dtype=np.uint8)
    predictions = np.array([0, 2, 0, 3], dtype=np.uint8)  # 3 is only predicted where there is no class
    iou = iou_of(confusion_matrix(labels, predictions, 4), "abcd")
    assert iou.per_class["a"] == pytest.approx(1 / 3) and iou.per_class["b"] == 0 and iou.per_class["c"] == 0
    assert math.isnan(iou.per_class["d"])
    assert iou.mean == pytest.approx(1 / 9)


def test_nothing_to_score() -> None:
    labels = np.full(3, IGNORE, dtype=np.uint8)
    assert math.isnan(iou_of(confusion_matrix(labels, np.zeros(3, np.uint8), 2), "ab").mean)


def test_lengths_and_ids_are_checked() -> None:
    with pytest.raises(DataError, match="2 predictions for 3 points"):
        confusion_matrix(np.zeros(3, np.uint8), np.zeros(2, np.uint8), 4)
    with pytest.raises(DataError, match="prediction 4 of 4 classes"):
        confusion_matrix(np.zeros(1, np.uint8), np.full(1, 4, np.uint8), 4)
    with pytest.raises(DataError, match="label 9 of 4 classes"):
        confusion_matrix(np.full(1, 9, np.uint8), np.zeros(1, np.uint8), 4)


def test_same_iou_says_where() -> None:
    a = IoU({"car": 0.5, "bus": float("nan")}, 0.5)
    assert same_iou(a, IoU({"car": 0.5 + 1e-12, "bus": float("nan")}, 0.5)) == ""
    assert same_iou(a, IoU({"car": 0.5, "bus": 0.0}, 0.25)) == "bus nan and 0.0, mean 0.5 and 0.25"
    assert "classes" in same_iou(a, IoU({"car": 0.5}, 0.5))
