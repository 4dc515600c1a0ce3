"""From scans to batches: voxels, their labels, the way back to points, and scans that cannot be used."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lima_core.errors import DataError
from lima_core.geometry.voxels import CartesianGrid
from lima_core.loading.augment import AugmentConfig
from lima_core.loading.collate import SegmentationSample, collate
from lima_core.loading.segmentation import SegmentationSource
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


def test_voxels_have_the_features_and_label_of_their_first_point() -> None:
    scans = Scans()
    sample = source(scans).sample(0, 0)
    cells = np.rint(scans.points[0][:, :3] / 0.5).astype(int)
    first: dict[tuple[int, ...], int] = {}
    for row, cell in enumerate(map(tuple, cells.tolist())):
        first.setdefault(cell, row)
    assert len(sample.coords) == len(first)
    for voxel, cell in enumerate(map(tuple, sample.coords.tolist())):
        np.testing.assert_array_equal(sample.features[voxel], scans.points[0][first[cell]])
        assert sample.labels[voxel] == scans.labels[0][first[cell]]
    np.testing.assert_array_equal(sample.coords[sample.inverse], cells)


def test_taught_points() -> None:
    scans = Scans()
    batch = source(scans, teach="points").load(0, [1, 3])
    expected = np.concatenate([scans.labels[1], scans.labels[3]])
    np.testing.assert_array_equal(batch.labels, expected)
    np.testing.assert_array_equal(batch.taught, torch.cat(batch.inverse))


def test_batch_is_its_scans_one_behind_the_other() -> None:
    scans = source(Scans())
    batch, parts = scans.load(0, [4, 0, 2]), [scans.sample(0, i) for i in (4, 0, 2)]
    assert batch.names == ("token4", "token0", "token2") and batch.taught is None
    assert batch.coords.dtype == torch.int32 and batch.coords.shape == (len(batch.features), 4)
    for position, part in enumerate(parts):
        rows = batch.coords[:, 0] == position
        assert torch.equal(batch.coords[rows][:, 1:], part.coords)
        assert torch.equal(batch.features[rows], part.features) and torch.equal(batch.labels[rows], part.labels)
        assert torch.equal(batch.coords[batch.inverse[position]][:, 1:], part.coords[part.inverse])
    moved = batch.to("cpu")
    assert moved.names == batch.names and torch.equal(moved.features, batch.features)


def test_augmentation_is_a_function_of_seed_epoch_and_index() -> None:
    scans, augment = Scans(), AugmentConfig()
    a = source(scans, augment=augment)
    assert not a.is_fixed and source(scans).is_fixed
    again = source(scans, augment=augment)
    assert torch.equal(a.sample(3, 1).features, again.sample(3, 1).features)
    others = [a.sample(4, 1), source(scans, augment=augment, seed=1).sample(3, 1)]
    assert all(not torch.equal(a.sample(3, 1).features[:9], other.features[:9]) for other in others)


def test_unlabelled_sees_the_plain_scan_and_reads_no_labels() -> None:
    scans = Scans()
    scans.labels = []
    sample = source(scans, augment=AugmentConfig()).unlabelled(2)
    plain = source(Scans()).sample(0, 2)
    assert torch.equal(sample.features, plain.features) and torch.equal(sample.inverse, plain.inverse)


def test_scans_that_cannot_be_used_are_named() -> None:
    scans = Scans()
    scans.points[1] = np.zeros((0, 4), np.float32)
    scans.points[2][7, 1] = np.nan
    scans.labels[3] = scans.labels[3][:-1]
    for i, what in ((1, "no point"), (2, "not finite"), (3, "202 labels for 203 points")):
        with pytest.raises(DataError, match=rf"scan{i}\.bin \(frame token{i}\): .*{what}"):
            source(scans).load(0, [0, i])


def test_collate_refuses_a_scan_without_voxels() -> None:
    empty = torch.zeros(0, dtype=torch.int64)
    nothing = SegmentationSample("token9", torch.zeros(0, 3, dtype=torch.int32), torch.zeros(0, 4), empty, empty)
    with pytest.raises(DataError, match="frame token9: the scan has no voxel"):
        collate([source(Scans()).sample(0, 0), nothing])
