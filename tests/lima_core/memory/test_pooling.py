"""Pooled targets against the naive computation: upsample every token map, read every pixel, average point by point."""

from collections import defaultdict

import numpy as np
import pytest
import torch
from torch.nn import functional

from lima_core.geometry.camera import project
from lima_core.memory.pooling import bilinear_patches, pool, reference_weights, to_references
from lima_core.stores.memory_bank import FrameBank
from lima_core.training.tensors import moved
from tests.lima_core.memory.toy_drive import CHANNELS, GRID, HEIGHT_PX, PATCH_PX, WIDTH_PX, Drive, toy_drive


def naive_targets(drive: Drive, index: int, frames: int, rounded: bool) -> dict[int, np.ndarray]:
    """Target by voxel key: mean over frames of the mean over cameras of the mean over points, each read at its pixel.

    With ``rounded`` pixels are rounded as the bank stores them, which separates that rounding from the arithmetic.
    """
    unit = functional.normalize(drive.patches.double(), dim=1).reshape(-1, 3, *GRID, CHANNELS)
    occupied = set(drive.voxels(index).tolist())
    seen: dict[int, dict[int, dict[int, list[np.ndarray]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for past in range(max(0, index - frames + 1), index + 1):
        projection = project(drive.frames[past], drive.points[past])
        for camera in range(3):
            maps = unit[past, camera].permute(2, 0, 1)[None]
            fraction = (projection.uv_px[camera] + 0.5) / [WIDTH_PX, HEIGHT_PX]
            if rounded:
                fraction = np.round(fraction * 65535) / 65535
            pixel = fraction * [GRID[1] * PATCH_PX, GRID[0] * PATCH_PX] - 0.5
            for point, key in enumerate(drive.voxels(past).tolist()):
                if projection.visible[camera, point] and key in occupied:
                    seen[key][past][camera].append(read_pixel(maps, *pixel[point]))
    targets = {}
    for key, by_frame in seen.items():
        entries = [
            np.mean([np.mean(points, axis=0) for points in views.values()], axis=0) for views in by_frame.values()
        ]
        mean = np.mean(entries, axis=0)
        targets[key] = mean / np.linalg.norm(mean)
    return targets


def read_pixel(tokens: torch.Tensor, column: float, row: float) -> np.ndarray:
    """Upsampled token map at a pixel, also between two pixels: torch's own sampler with aligned corners."""
    last_column, last_row = GRID[1] * PATCH_PX - 1, GRID[0] * PATCH_PX - 1
    at = torch.tensor([[[[2 * column / last_column - 1, 2 * row / last_row - 1]]]], dtype=tokens.dtype)
    return functional.grid_sample(tokens, at, padding_mode="border", align_corners=True)[0, :, 0, 0].numpy()


def pooled(drive: Drive, bank: FrameBank, index: int, **kwargs: str) -> torch.Tensor:
    references = to_references([bank], [index + 1], num_cameras=3)
    return pool(drive.patches[: (index + 1) * 3 * GRID[0] * GRID[1]], references, GRID, PATCH_PX, **kwargs)


@pytest.mark.parametrize("frames", [1, 3])
def test_per_point_references_equal_the_naive_computation(frames: int) -> None:
    drive = toy_drive()
    bank = drive.bank(3, frames, "points")
    targets = pooled(drive, bank, 3)
    assert len(targets) > 100
    key_of_target = dict(zip(bank.point_target.tolist(), drive.voxels(3).tolist(), strict=True))
    rounded, exact = (naive_targets(drive, 3, frames, rounded) for rounded in (True, False))
    assert set(rounded) == {key for target, key in key_of_target.items() if target >= 0}
    for target in range(len(targets)):
        np.testing.assert_allclose(targets[target].numpy(), rounded[key_of_target[target]], atol=1e-5)
        np.testing.assert_allclose(targets[target].numpy(), exact[key_of_target[target]], atol=2e-4)


def test_merged_references_stay_close_to_per_point_ones() -> None:
    drive = toy_drive(num_points=3000)
    points, merged = (pooled(drive, drive.bank(3, 3, kind), 3) for kind in ("points", "merged"))
    cosine = (points * merged).sum(dim=1)
    assert merged.shape == points.shape
    assert 0.9 < cosine.mean() < 1.0


def test_bilinear_reading_equals_upsampling_and_reading_the_pixel() -> None:
    height, width = GRID[0] * PATCH_PX, GRID[1] * PATCH_PX
    tokens = torch.randn(GRID[0] * GRID[1], CHANNELS, generator=torch.Generator().manual_seed(0))
    maps = tokens.reshape(*GRID, CHANNELS).permute(2, 0, 1)[None]
    upsampled = functional.interpolate(maps, size=(height, width), mode="bilinear", align_corners=True)[0]
    row, column = (axis.flatten() for axis in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    patches, weights = bilinear_patches((column + 0.5) / width, (row + 0.5) / height, GRID, PATCH_PX)
    read = (tokens[patches] * weights[..., None]).sum(dim=1)
    torch.testing.assert_close(read, upsampled[:, row, column].T, atol=2e-5, rtol=0)


@pytest.mark.parametrize("cross_view", ["mean", "first"])
def test_weights_of_a_target_sum_to_one(cross_view: str) -> None:
    drive = toy_drive()
    references = to_references([drive.bank(3, 3, "merged")], [4], num_cameras=3)
    weights = reference_weights(references, cross_view)
    target = torch.repeat_interleave(references.num_references)
    sums = torch.zeros(len(references.num_references)).index_add_(0, target, weights)
    torch.testing.assert_close(sums, torch.ones_like(sums))


@pytest.mark.parametrize("cross_view", ["mean", "first"])
def test_no_size_has_to_be_asked_of_the_device(cross_view: str) -> None:
    """Tensors without content: whatever would wait for a GPU fails on them."""
    drive = toy_drive()
    references = to_references([drive.bank(3, 3, "merged")], [4], num_cameras=3)
    expected = pool(drive.patches, references, GRID, PATCH_PX, cross_view).shape
    assert pool(drive.patches.to("meta"), moved(references, "meta"), GRID, PATCH_PX, cross_view).shape == expected


def test_first_view_drops_overlapping_cameras() -> None:
    drive = toy_drive()
    bank = drive.bank(0, 1, "merged")
    references = to_references([bank], [1], num_cameras=3)
    weights = reference_weights(references, "first").numpy()
    first = np.concatenate([[0], np.cumsum(bank.num_references)[:-1]]).astype(int)
    assert (bank.num_references > 1).any()
    expected = np.zeros(len(weights))
    expected[first] = 1
    np.testing.assert_array_equal(weights, expected)


def test_two_memories_pool_as_each_alone() -> None:
    drives = [toy_drive(seed=1), toy_drive(seed=2)]
    banks = [drive.bank(3, 3, "merged") for drive in drives]
    alone = torch.cat([pooled(drive, bank, 3) for drive, bank in zip(drives, banks, strict=True)])
    together = pool(torch.cat([drive.patches for drive in drives]), to_references(banks, [4, 4], 3), GRID, PATCH_PX)
    torch.testing.assert_close(together, alone)


def test_a_bank_without_references_gives_no_targets() -> None:
    drive = toy_drive()
    empty = drive.bank(3, 3, "merged").within(0)
    assert (empty.point_target == -1).all()
    assert pooled(drive, empty, 3).shape == (0, CHANNELS)
