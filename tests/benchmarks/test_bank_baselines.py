"""The baselines against loops over points, and against the memory bank itself on a small drive."""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.bank_baselines import SAMPLERS, Grid, Observations, Realigner, observe, pool_union
from benchmarks.bank_variants import VARIANTS, Setup, Stopwatch, agreement, measure
from benchmarks.bench_bank_cost import prepare, ratios
from lima_core.geometry import se3
from tests.lima_core.datasets.tiny_folder import NUM_FRAMES, write_tiny_folder
from tests.lima_core.memory.toy_drive import toy_drive

VOXEL_SIZE_M = 4.0


def observations(num_frames: int = 4, channels: int = 5) -> list[Observations]:
    drive, rng = toy_drive(num_points=600), np.random.default_rng(0)
    window = []
    for frame, points in zip(drive.frames[:num_frames], drive.points, strict=False):
        count = int(rng.integers(500, 900))
        point, camera = rng.integers(0, len(points), count), rng.integers(0, 3, count)
        features = torch.from_numpy(rng.normal(size=(count, channels))).float()
        window.insert(0, Observations(frame, points, point, camera, features))
    return window


def cell(scene_from_lidar: np.ndarray, xyz: np.ndarray) -> tuple[int, ...]:
    return tuple(np.floor(se3.transform(scene_from_lidar, xyz[None])[0] / VOXEL_SIZE_M).astype(int).tolist())


@pytest.mark.parametrize("only_occupied", [False, True])
def test_targets_are_means_over_points_then_cameras_then_frames(only_occupied: bool) -> None:
    window = observations()
    scene_from_global = se3.invert(window[-1].frame.global_from_lidar)
    targets = pool_union(window, scene_from_global, VOXEL_SIZE_M, only_occupied)
    by_voxel: dict = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for age, part in enumerate(window):
        scene_from_lidar = scene_from_global @ part.frame.global_from_lidar
        for point, camera, feature in zip(part.point, part.camera, part.features, strict=True):
            by_voxel[cell(scene_from_lidar, part.xyz_lidar[point])][age][camera].append(feature)
    shared = 0
    for point, xyz in enumerate(window[0].xyz_lidar):
        frames = by_voxel.get(cell(scene_from_global @ window[0].frame.global_from_lidar, xyz))
        target = targets.point_target[point]
        assert (target < 0) == (frames is None)
        if frames is not None:
            of_frames = [torch.stack([torch.stack(p).mean(0) for p in c.values()]).mean(0) for c in frames.values()]
            expected = torch.nn.functional.normalize(torch.stack(of_frames).mean(0), dim=0)
            torch.testing.assert_close(targets.features[target], expected, atol=1e-5, rtol=1e-5)
            shared += len(frames) > 1
    assert shared > 20


def test_the_window_forgets_its_oldest_frame() -> None:
    window = observations()
    scene_from_global = se3.invert(window[-1].frame.global_from_lidar)
    realigner = Realigner(2, scene_from_global, VOXEL_SIZE_M, only_occupied=True)
    for part in reversed(window):
        realigner.add(part)
    expected = pool_union(window[:2], scene_from_global, VOXEL_SIZE_M, only_occupied=True)
    torch.testing.assert_close(realigner.targets().features, expected.features)


def test_samplers_read_the_same_place() -> None:
    drive, grid = toy_drive(), Grid(12, 20, 14)
    ramp = torch.stack(torch.meshgrid(torch.arange(12.0), torch.arange(20.0), indexing="ij"), dim=-1)
    patches = torch.cat([torch.cat([ramp, torch.full((12, 20, 1), 30.0 + slot)], -1).view(-1, 3) for slot in range(3)])
    seen = {name: observe(drive.frames[0], drive.points[0], patches, grid, name) for name in SAMPLERS}
    torch.testing.assert_close(seen["grid_sample"].features, seen["embedding_bag"].features, atol=1e-5, rtol=0)
    # The nearest pixel is at most half a pixel away, 1/28 of a patch, and a patch changes a unit vector by 1/30.
    torch.testing.assert_close(seen["upsample"].features, seen["embedding_bag"].features, atol=2e-3, rtol=0)
    assert not torch.equal(seen["upsample"].features, seen["embedding_bag"].features)


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    raw, work = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("work")
    (raw / "truth").mkdir()
    write_tiny_folder(raw, ("a",))
    prepare(argparse.Namespace(data_root=raw, dataset={"name": "folder"}, frames=None, channels=8), work)
    return Setup(str(work / "raw"), str(work), window=3, every=2)


def test_baselines_and_bank_agree_on_a_drive_whose_truth_is_hidden(setup: Setup) -> None:
    assert not Path(setup.raw, "truth").exists()
    VARIANTS["build-plain"](setup, Stopwatch())
    agreed = agreement(setup)
    for name in ("realign", "realign-occupied", "project"):
        assert agreed[name]["same_points_taught"] and agreed[name]["min_cosine"] > 0.999 and agreed[name]["points"] > 20


def test_every_variant_is_measured(setup: Setup) -> None:
    measured = {name: measure(setup, name) for name in VARIANTS}
    for row in measured.values():
        assert row["cpu_s"] > 0 and row["cpu_s"] == pytest.approx(sum(s["cpu_s"] for s in row["steps"].values()))
    assert len(setup.frames) == NUM_FRAMES and setup.sampled() == [1, 3, 5]


def test_ratios_say_how_many_times_cheaper_ours_is() -> None:
    cpu_s = {"build": 2.0, "build-plain": 1.0, "pool": 1.0, "pool-plain": 1.0, "realign": 9.0, "realign-occupied": 6.0}
    rows = ratios(cpu_s | {"project": 20.0, "project-upsample": 40.0, "project-bag": 10.0})
    found = {row["cpu_seconds_of"]: row["ratio"] for row in rows}
    assert found["realign / (build + pool): float targets of every frame, once, default bank"] == 3.0
    assert found["1 project / (build + 1 pool): all of 1 epochs, default bank"] == round(20 / 3, 2)
    assert found["50 project / (build + 50 pool): all of 50 epochs, default bank"] == round(1000 / 52, 2)
    assert len(found) == len(rows) == 26
