"""IoU per point: our own, and that of nuscenes-devkit run on a folder of predictions.

Both follow one definition, the devkit's (nuscenes/eval/lidarseg/utils.py): one confusion matrix over all points of all
frames, points without a class removed, and a class that is neither in the truth nor predicted has no IoU and does not
enter the mean. SLidR counts such a class as 1.0, so its numbers on small splits are not comparable.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lima_core.errors import DataError
from lima_core.types import IGNORE

if TYPE_CHECKING:
    from nuscenes import NuScenes


@dataclass(frozen=True)
class IoU:
    """What an evaluator found."""

    per_class: dict[str, float]
    """Class name to IoU from 0 to 1; NaN for a class that is in neither truth nor predictions."""
    mean: float
    """Over the classes that are not NaN; NaN when all are."""


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts of points by true class (row) and predicted class (column).

    Args:
        labels: (N,) train ids 0..K-1, or IGNORE: such a point is not counted at all.
        predictions: (N,) train ids 0..K-1.
        num_classes: K.

    Returns:
        (K, K) int64.

    Raises:
        DataError: lengths differ, or an id is out of range.
    """
    if labels.shape != predictions.shape:
        raise DataError(f"{len(predictions)} predictions for {len(labels)} points")
    counted = labels != IGNORE
    truth, predicted = labels[counted].astype(np.int64), predictions[counted].astype(np.int64)
    for what, ids in (("label", truth), ("prediction", predicted)):
        if ids.size and not 0 <= ids.min() <= ids.max() < num_classes:
            raise DataError(f"{what} {ids.max()} of {num_classes} classes", remedy="is this of another data set?")
    return np.bincount(truth * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_iou(confusion: np.ndarray) -> np.ndarray:
    """(K,) float64 IoU of every class; NaN where a class is neither in the truth nor predicted."""
    hits = np.diagonal(confusion)
    union = confusion.sum(axis=1) + confusion.sum(axis=0) - hits
    with np.errstate(divide="ignore", invalid="ignore"):
        return hits / union.astype(np.float32)  # float32 as in the devkit: it rounds unions above 2**24 points


def iou_of(confusion: np.ndarray, classes: Sequence[str]) -> IoU:
    """IoU by class name, and the mean."""
    values = class_iou(confusion)
    present = values[~np.isnan(values)]
    mean = float(present.mean()) if present.size else float("nan")
    return IoU(dict(zip(classes, values.tolist(), strict=True)), mean)


def same_iou(ours: IoU, theirs: IoU, tolerance: float = 1e-9) -> str:
    """What two evaluators disagree on by more than ``tolerance``, or nothing."""
    names = list(ours.per_class)
    if names != list(theirs.per_class):
        return f"classes {names} and {list(theirs.per_class)}"
    pairs = [(name, ours.per_class[name], theirs.per_class[name]) for name in names]
    pairs.append(("mean", ours.mean, theirs.mean))
    bad = [pair for pair in pairs if not np.isclose(pair[1], pair[2], rtol=0, atol=tolerance, equal_nan=True)]
    return ", ".join(f"{name} {a!r} and {b!r}" for name, a, b in bad)


class _AllScenes:
    """Devkit tables in which every scene of a split is present, empty where a copy of the data lacks it.

    ``LidarSegEval`` looks up all scenes of the official split; a partial copy, or a world with a few, would fail.
    """

    def __init__(self, nuscenes: "NuScenes", names: Iterable[str]) -> None:
        self._nuscenes = nuscenes
        present = {record["name"] for record in nuscenes.scene}
        self.scene = nuscenes.scene + [{"name": name, "token": ""} for name in names if name not in present]

    def get(self, table: str, token: str) -> dict[str, Any]:
        if table == "scene" and not token:
            return {"nbr_samples": 0, "first_sample_token": "", "last_sample_token": ""}
        return self._nuscenes.get(table, token)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._nuscenes, name)


def nuscenes_lidarseg_miou(
    root: Path, version: str, eval_set: str, predictions_dir: Path, only: Collection[str] | None = None
) -> IoU:
    """Scores of nuscenes-devkit's own ``LidarSegEval`` over all frames of ``eval_set`` that ``root`` holds.

    Args:
        root: nuScenes data root with lidarseg labels.
        version: ``v1.0-mini`` or ``v1.0-trainval``.
        eval_set: the devkit's split name, ``val`` or ``mini_val``.
        predictions_dir: holds ``lidarseg/<eval_set>/<token>_lidarseg.bin``, ids 1..16.
        only: LiDAR tokens of the frames to score; None: all, which alone is a result.

    Raises:
        DataError: no labels, no frame in the split, or a prediction that is missing or not valid.
    """
    from nuscenes import NuScenes  # seconds of matplotlib
    from nuscenes.eval.lidarseg.evaluate import LidarSegEval
    from nuscenes.utils.splits import create_splits_scenes

    nuscenes = NuScenes(version=version, dataroot=str(root), verbose=False)
    tables = _AllScenes(nuscenes, create_splits_scenes()[eval_set])
    try:
        evaluator = LidarSegEval(tables, str(predictions_dir), eval_set=eval_set)
        if only is not None:
            lidar = {token: nuscenes.get("sample", token)["data"]["LIDAR_TOP"] for token in evaluator.sample_tokens}
            evaluator.sample_tokens = [token for token, scan in lidar.items() if scan in only]
        if not evaluator.sample_tokens:
            raise DataError(f"no frame of split {eval_set!r}", where=root)
        evaluator.evaluate()
    except (AssertionError, FileNotFoundError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"nuscenes-devkit refuses: {error}", where=predictions_dir, remedy="finetune again") from error
    return _devkit_iou(evaluator.global_cm.get_per_class_iou(), evaluator.id2name, evaluator.global_cm.get_mean_iou())


def _devkit_iou(per_class: np.ndarray, names: dict[int, str], mean: float) -> IoU:
    """The devkit's list without its class 0, which is the ignored one."""
    return IoU({names[i]: float(per_class[i]) for i in range(1, len(per_class))}, float(mean))
