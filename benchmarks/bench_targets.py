"""How much the pooled targets themselves say about classes: a linear classifier on targets, nothing trained from scans.

A least-squares classifier from targets to classes is fitted on the first training scenes and judged on the last two.
It costs seconds where a probe of a student costs minutes, and says what a bank's or a pooling's variant can teach.

python -m benchmarks.bench_targets DATA_ROOT --dataset '{"name": "nuscenes", "version": "v1.0-mini"}' [--out FILE]
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lima_core.datasets import dataset_config, open_dataset
from lima_core.memory.pooling import pool, to_references
from lima_core.metrics.segmentation import class_iou, confusion_matrix
from lima_core.stores.feature_store import FeatureStore
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.memory_bank import MemoryBank
from lima_core.types import IGNORE, Resources
from stages import build_memory, extract_features, index

BANKS: dict[str, dict[str, Any]] = {
    "default": {},
    "no occlusion test": {"occlusion": None},
    "no free-space gate": {"free_space": None},
    "no growth with range": {"growth_range_m": None},
    "fallback 1": {"fallback": 1},
    "fallback 2": {"fallback": 2},
    "voxel 0.05 m": {"voxel_size_m": 0.05},
    "voxel 0.2 m": {"voxel_size_m": 0.2},
    "voxel 0.4 m": {"voxel_size_m": 0.4},
}
POOLINGS: dict[str, dict[str, Any]] = {
    "1 frame": {"frames": 1},
    "1 frame, first view": {"frames": 1, "cross_view": "first"},
    "3 frames": {"frames": 3},
    "6 frames": {},
    "12 frames": {"frames": 12},
    "6 frames, first view": {"cross_view": "first"},
}
STRIDE = 3
"""Every third frame is used."""


class Drive:
    """A data set with its features, ready to be pooled by any bank."""

    def __init__(self, raw: Path, dataset: dict[str, Any], work: Path) -> None:
        self.raw, self.work = raw, work
        for name, stage, config in (
            ("index", index, index.Config(dataset=dataset_config(dataset))),
            ("features", extract_features, extract_features.Config(image_size_px=(224, 400))),
        ):
            (work / name).mkdir()
            inputs = stage.Inputs(raw) if stage is index else stage.Inputs(raw, work / "index")
            stage.run(config, inputs, work / name, Resources())
        self.index, self.store = FrameIndex.open(work / "index"), FeatureStore.open(work / "features")
        self.dataset = open_dataset(dataset_config(self.index.dataset), raw)

    def bank(self, name: str, config: dict[str, Any]) -> MemoryBank:
        """A bank of 12 frames by this config."""
        out = self.work / name.replace(" ", "-")
        out.mkdir()
        build_memory.run(
            build_memory.Config(frames=12, **config),
            build_memory.Inputs(self.raw, self.work / "index"),
            out,
            Resources(),
        )
        return MemoryBank.open(out)

    def taught(
        self, bank: MemoryBank, scenes: list[str], frames: int = 6, **pooling: Any
    ) -> Iterator[tuple[torch.Tensor, np.ndarray, int]]:
        """Targets (M, C) and classes (M,) of a frame's taught points, and how many points have a class."""
        facts = self.store.facts
        for frame in (frame for scene in scenes for frame in self.index.frames(scene)[2::STRIDE]):
            of_frame, oldest = bank.frame(frame.scene, frame.index, frames), max(0, frame.index - frames + 1)
            references = to_references([of_frame], [frame.index + 1 - oldest], len(facts.cameras))
            table = self.store.read(frame.scene, oldest, frame.index + 1).table()
            targets = pool(table, references, facts.grid, facts.patch_px, **pooling)
            labels = self.dataset.load_labels(frame)
            chosen = (of_frame.point_target >= 0) & (labels != IGNORE)
            rows = torch.from_numpy(of_frame.point_target[chosen].astype(np.int64))
            yield targets[rows].double(), labels[chosen], int((labels != IGNORE).sum())


def judged(drive: Drive, bank: MemoryBank, **options: Any) -> dict[str, float]:
    """Scores of the classifier: mIoU and accuracy, and the share of points with a class that are taught."""
    scenes, num_classes = list(drive.index.scenes("train")), len(drive.index.facts.classes)
    gram = cross = 0
    for targets, labels, _ in drive.taught(bank, scenes[:-2], **options):
        inputs = torch.nn.functional.pad(targets, (0, 1), value=1.0)
        gram = gram + inputs.T @ inputs
        cross = cross + inputs.T @ torch.eye(num_classes, dtype=torch.float64)[labels.astype(np.int64)]
    ridge = 1e-3 * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    weights = torch.linalg.solve(gram + ridge, cross)
    confusion, taught, points = 0, 0, 0
    for targets, labels, num_points in drive.taught(bank, scenes[-2:], **options):
        predicted = (torch.nn.functional.pad(targets, (0, 1), value=1.0) @ weights).argmax(dim=1)
        confusion = confusion + confusion_matrix(labels, predicted.numpy().astype(np.uint8), num_classes)
        taught, points = taught + len(labels), points + num_points
    return {
        "miou": round(100 * float(np.nanmean(class_iou(confusion))), 2),
        "accuracy": round(100 * float(np.trace(confusion) / confusion.sum()), 2),
        "coverage": round(100 * taught / points, 2),
    }


def main() -> None:
    """Prints a row per variant and writes all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", type=Path)
    parser.add_argument("--dataset", type=json.loads, required=True)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        drive = Drive(arguments.data_root, arguments.dataset, Path(folder))
        for name, config in BANKS.items():
            bank = drive.bank(name, config)
            for pooling, options in (POOLINGS if name == "default" else {"6 frames": {}}).items():
                rows.append({"bank": name, "pooling": pooling, **judged(drive, bank, **options)})
                print(json.dumps(rows[-1]), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
