"""Predictions of a trained model for whole scans, written so that a killed run goes on."""

from itertools import islice

from lima_core.datasets import DatasetConfig
from lima_core.datasets.adapter import Dataset
from lima_core.datasets.nuscenes import SPLITS, NuScenesConfig
from lima_core.geometry.voxels import CartesianGrid, CylindricalGrid
from lima_core.loading.segmentation import SegmentationSource
from lima_core.parallel import PartsProgress
from lima_core.storage import together
from lima_core.stores.predictions import Predictions
from lima_core.tasks.segmentation import SegmentationModel, predict_points
from lima_core.training.prefetch import ahead
from lima_core.types import Frame, Resources

WRITTEN_TOGETHER = 16
"""A disk flushes so many files in hardly more time than one."""


def predict(
    model: SegmentationModel,
    dataset: Dataset,
    frames: tuple[Frame, ...],
    voxels: CartesianGrid | CylindricalGrid,
    predictions: Predictions,
    resources: Resources,
) -> None:
    """Writes the classes of all points of ``frames``; those that a killed run finished are left as they are.

    Raises:
        DataError: a frame that cannot be used.
    """
    missing = [i for i, frame in enumerate(frames) if frame.token not in predictions]
    source = SegmentationSource(dataset, frames, voxels, None, 0)
    model.to(resources.device).eval()
    with PartsProgress("predict", len(missing), "frames") as progress:
        scans = ahead(source.unlabelled, missing, resources.workers)
        predicted = ((scan.name, predict_points(model, scan, voxels, resources.device)) for scan in scans)
        while some := list(islice(predicted, WRITTEN_TOGETHER)):
            together(lambda named: predictions.write(*named), some)
            for _ in some:
                progress.advance()


def eval_set(dataset: DatasetConfig) -> str:
    """Name of the validation split in prediction paths: the devkit's for nuScenes, ``val`` elsewhere."""
    splits = SPLITS[dataset.version] if isinstance(dataset, NuScenesConfig) else {}
    return next((theirs for theirs, ours in splits.items() if ours == "val"), "val")
