"""build-memory: resumable by scene, without images, and honest about its own quality."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from lima_core.errors import DataError
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.memory_bank import FrameBank, MemoryBank
from lima_core.types import Resources
from stages import build_memory
from tests.stages.small_run import VOXEL_SIZE_M, index_of
from tests.stages.trees import tree


def build(root: Path, name: str, raw: Path, index: Path, **kwargs: object) -> dict:
    out = root / name
    out.mkdir(exist_ok=True)
    config = build_memory.Config(voxel_size_m=VOXEL_SIZE_M, **kwargs)
    return build_memory.run(config, build_memory.Inputs(raw, index), out, Resources())


def test_a_run_killed_between_scenes_continues_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, index = index_of(tmp_path)
    expected = build(tmp_path, "whole", raw, index)
    real = build_memory.SceneWriter.append
    appended = []

    def dies_in_the_second_scene(self: build_memory.SceneWriter, bank: FrameBank) -> None:
        if len(appended) == 8:
            raise KeyboardInterrupt
        appended.append(bank)
        real(self, bank)

    monkeypatch.setattr(build_memory.SceneWriter, "append", dies_in_the_second_scene)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, "stopped", raw, index)
    monkeypatch.setattr(build_memory.SceneWriter, "append", real)
    assert build(tmp_path, "stopped", raw, index) == expected
    assert tree(tmp_path / "stopped") == tree(tmp_path / "whole")


def test_worker_processes_write_the_same_bytes(tmp_path: Path) -> None:
    raw, index = index_of(tmp_path)
    build(tmp_path, "alone", raw, index)
    (tmp_path / "workers").mkdir()
    config = build_memory.Config(voxel_size_m=VOXEL_SIZE_M)
    build_memory.run(config, build_memory.Inputs(raw, index), tmp_path / "workers", Resources(workers=2))
    assert tree(tmp_path / "workers") == tree(tmp_path / "alone")


def test_a_long_bank_on_disk_serves_every_shorter_window(tmp_path: Path) -> None:
    raw, index = index_of(tmp_path)
    build(tmp_path, "long", raw, index, frames=5)
    build(tmp_path, "short", raw, index, frames=2)
    long, short = MemoryBank.open(tmp_path / "long"), MemoryBank.open(tmp_path / "short")
    num_references = 0
    for frame in FrameIndex.open(index).frames():
        read, built = long.frame(frame.scene, frame.index, 2), short.frame(frame.scene, frame.index)
        num_references += len(built.age)
        for name in FrameBank.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(read, name), getattr(built, name), err_msg=name)
    assert num_references > 200


def test_six_frames_cover_more_than_one_and_the_summary_says_so(tmp_path: Path) -> None:
    raw, index = index_of(tmp_path)
    summary = build(tmp_path, "memory", raw, index, frames=6)
    windows = summary["by_window"]
    assert [row["frames"] for row in windows] == [1, 2, 3, 4, 5, 6]
    assert windows[5]["coverage"] > windows[0]["coverage"] > 0
    assert windows[5]["depth"] > windows[0]["depth"] >= 1
    assert summary["coverage"] == windows[5]["coverage"]
    bank = MemoryBank.open(tmp_path / "memory")
    taught = [bank.frame("a", i).point_target >= 0 for i in range(6)] + [
        bank.frame("b", i).point_target >= 0 for i in range(6)
    ]
    assert summary["coverage"] == pytest.approx(np.concatenate(taught).mean())


def test_no_image_is_needed(tmp_path: Path) -> None:
    raw, index = index_of(tmp_path)
    for folder in raw.glob("sequences/*/cameras"):
        shutil.rmtree(folder)
    assert build(tmp_path, "memory", raw, index)["coverage"] > 0


def test_an_empty_scan_is_named(tmp_path: Path) -> None:
    raw, index = index_of(tmp_path)
    scan = raw / "sequences/b/lidar/000003.bin"
    scan.write_bytes(b"")
    with pytest.raises(DataError, match=r"b/lidar/000003\.bin"):
        build(tmp_path, "memory", raw, index)
    assert not (tmp_path / "memory/memory.zarr/b").exists()
    assert (tmp_path / "memory/memory.zarr/a").exists()
