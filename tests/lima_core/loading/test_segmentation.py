"""From scans to batches: points with their labels, bounds, and scans that cannot be used."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lima_core.errors import DataError
from lima_core.geometry.voxels import CartesianGrid
from lima_core.loading.augment import AugmentConfig
from lima_core.loading.collate import SegmentationSample, collate
from lima_core.loading.limits import LimitsConfig, kept_points
from lima_core.loading.scans import Scan
from lima_core.loading.segmentation import SegmentationSource
from lima_core.training.prefetch import ahead
from lima_core.types import IGNORE, Frame

GRID = CartesianGrid(size_m=(0.5, 0.5, 0.5))


def frame(i: int) -> Frame:
    return Frame("scene", i, f"token{i}", "train", i, f"scan{i}.bin", "labels", np.eye(4), ())


class Scans:
    """A data set whose scans can be broken on purpose."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.points = [rng.uniform(-3, 3, (200 + i, 4)).astype(np.float32) for i in range(5)]
        self.labels = [rng.integers(0, 4, len(p)).astype(np.uint8) for p in self.points]
        self.labels[0][:20] = IGNORE

    def load_points(self, frame: Frame) -> np.ndarray:
        return self.points[frame.index]

    def load_labels(self, frame: Frame) -> np.ndarray:
        return self.labels[frame.index]


def source(scans: Scans, **options: object) -> SegmentationSource:
    fixed = SegmentationSource(scans, tuple(frame(i) for i in range(5)), GRID, None, 0)
    return replace(fixed, **options)


def test_a_batch_is_its_scans_one_behind_the_other_as_they_were_recorded() -> None:
    scans = Scans()
    batch = source(scans).load(0, [4, 0, 2])
    assert batch.names == ("token4", "token0", "token2") and batch.scans.counts == (204, 200, 202)
    np.testing.assert_array_equal(batch.scans.points, np.concatenate([scans.points[i] for i in (4, 0, 2)]))
    np.testing.assert_array_equal(batch.labels, np.concatenate([scans.labels[i] for i in (4, 0, 2)]))
    assert batch.scans.grid == GRID and batch.scans.matrices is None and batch.scans.dropped is None
    moved = batch.to("cpu")
    assert moved.names == batch.names and torch.equal(moved.scans.points, batch.scans.points)


def test_augmentation_is_a_function_of_seed_epoch_and_index() -> None:
    scans, augment = Scans(), AugmentConfig()
    a = source(scans, augment=augment)
    assert not a.is_fixed and source(scans).is_fixed

    def matrix(source: SegmentationSource, epoch: int, *indices: int) -> torch.Tensor:
        return source.load(epoch, indices).scans.matrices

    again = source(scans, augment=augment)
    assert torch.equal(matrix(a, 3, 1), matrix(again, 3, 1))
    assert torch.equal(matrix(a, 3, 0, 1)[1:], matrix(again, 3, 1))
    others = [matrix(a, 4, 1), matrix(a, 3, 2), matrix(source(scans, augment=augment, seed=1), 3, 1)]
    assert all(not torch.equal(matrix(a, 3, 1), other) for other in others)


@pytest.mark.parametrize("keep", ["random", "nearest"])
def test_points_beyond_the_bound_are_left_out_with_their_labels_and_counted(keep: str) -> None:
    scans = Scans()
    bounded = source(scans, limits=LimitsConfig(max_points=202, keep=keep))
    assert not bounded.is_fixed
    batch = bounded.load(0, range(5))
    assert batch.scans.counts == (200, 201, 202, 202, 202) and batch.scans.dropped == 1 + 2
    known = {
        tuple(point): label for i in range(5) for point, label in zip(scans.points[i], scans.labels[i], strict=True)
    }
    assert [known[tuple(point)] for point in batch.scans.points.numpy()] == batch.labels.tolist()
    rows = [scans.points[4].tolist().index(point.tolist()) for point in batch.scans.points[-202:]]
    assert rows == sorted(rows)  # so the first point of a voxel is still its first
    names = [tuple(p) for p in bounded.sample(0, 4).scan.points]
    assert names == [tuple(p) for p in batch.scans.points[-202:].numpy()]
    assert any(names != [tuple(p) for p in bounded.sample(epoch, 4).scan.points] for epoch in range(1, 6))
    threaded = list(ahead(lambda i: bounded.load(0, [i]), range(5), workers=3))
    assert torch.equal(torch.cat([part.scans.points for part in threaded]), batch.scans.points)


def test_nearest_points_are_those_around_one_of_them() -> None:
    xyz = np.random.default_rng(0).normal(size=(500, 3))
    kept = kept_points(xyz, LimitsConfig(max_points=60, keep="nearest"), np.random.default_rng(1))
    distance = np.linalg.norm(xyz[None] - xyz[:, None], axis=2)
    assert any(set(np.argsort(row)[:60]) == set(kept.tolist()) for row in distance)


def test_what_is_predicted_is_the_plain_whole_scan_and_no_labels_are_read() -> None:
    scans = Scans()
    scans.labels = []
    bounded = source(scans, augment=AugmentConfig(), limits=LimitsConfig(max_points=9, max_voxels=9))
    scan = bounded.unlabelled(2)
    np.testing.assert_array_equal(scan.points, scans.points[2])
    assert scan.matrix is None and scan.max_voxels is None and scan.name == "token2"


def test_scans_that_cannot_be_used_are_named() -> None:
    scans = Scans()
    scans.points[1] = np.zeros((0, 4), np.float32)
    scans.points[2][7, 1] = np.nan
    scans.labels[3] = scans.labels[3][:-1]
    for i, what in ((1, "no point"), (2, "not finite"), (3, "202 labels for 203 points")):
        with pytest.raises(DataError, match=rf"scan{i}\.bin \(frame token{i}\): .*{what}"):
            source(scans).load(0, [0, i])


def test_collate_refuses_a_scan_without_points() -> None:
    nothing = SegmentationSample(Scan("token9", np.zeros((0, 4), np.float32)), np.zeros(0, np.uint8))
    with pytest.raises(DataError, match="frame token9: the scan holds no point"):
        collate([source(Scans()).sample(0, 0), nothing], GRID)
