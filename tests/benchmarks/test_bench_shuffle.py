"""The cache that the benchmark of orders plays, and what it counts and reads."""

from pathlib import Path

import numpy as np

from benchmarks import bench_shuffle
from lima_core.training.shuffle import ShuffleBlocks


def test_the_least_recently_used_frame_leaves() -> None:
    cache = bench_shuffle.Cache(3)
    assert list(cache.read(range(0, 3))) == [] and cache.misses == 3
    assert list(cache.read(range(0, 1))) == [] and cache.misses == 3
    assert list(cache.read(range(5, 7))) == [1, 2] and cache.misses == 5
    assert list(cache.read(range(0, 1))) == [] and cache.misses == 5


def test_windows_end_at_the_sample_and_stay_in_its_scene() -> None:
    assert list(bench_shuffle.windows([0, 9, 3, 12], (10, 5))) == [
        range(0, 1),
        range(4, 10),
        range(0, 4),
        range(10, 13),
    ]


def test_blocks_read_less_and_mix_fewer_scenes() -> None:
    runs = (40,) * 30
    free, blocks = (bench_shuffle.counted(how, runs, [100, 10_000]) for how in (None, ShuffleBlocks(mixed=4)))
    key = "frames_from_disk_per_sample_cache_100"
    assert blocks[key] < 1.5 < 4 < free[key]
    assert free["scenes_in_a_batch"] > blocks["scenes_in_a_batch"] > 3
    assert free["frames_from_disk_per_sample_cache_10000"] == 1.0


def test_a_store_is_read_in_either_order(tmp_path: Path) -> None:
    store = bench_shuffle.written(tmp_path, num_scenes=2, num_frames=8, channels=4)
    assert store.read("scene-1", 3, 8).codes.shape == (5, 6, 16, 32, 4)
    for blocks in (None, ShuffleBlocks(frames=4, mixed=1)):
        found = bench_shuffle.measured(store, tmp_path, blocks, (8, 8))
        assert found["ms_per_sample"] > 0 and np.isfinite(found["disk_mb_per_sample"])
