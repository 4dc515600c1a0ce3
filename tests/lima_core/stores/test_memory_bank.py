"""The bank on disk: round trip over chunk borders, and what is said about banks that cannot be used."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from lima_core.errors import StoreError
from lima_core.stores import ragged
from lima_core.stores.memory_bank import FOLDER, FrameBank, MemoryBank, SceneWriter


def random_bank(rng: np.random.Generator, num_points: int) -> FrameBank:
    num_references = rng.integers(1, 5, size=num_points // 3).astype(np.uint16)
    total = int(num_references.sum())
    return FrameBank(
        point_target=rng.integers(-1, len(num_references), num_points).astype(np.int32),
        num_references=num_references,
        age=rng.integers(0, 3, total).astype(np.uint8),
        camera=rng.integers(0, 6, total).astype(np.uint8),
        u=rng.integers(0, 65536, total).astype(np.uint16),
        v=rng.integers(0, 65536, total).astype(np.uint16),
    )


def write(path: Path, banks: list[FrameBank]) -> MemoryBank:
    MemoryBank.create(path, frames=3, voxel_size_m=0.1, cameras=("front",))
    writer = SceneWriter(path / FOLDER / "scene")
    for bank in banks:
        writer.append(bank)
    writer.close({"num_frames": len(banks)})
    return MemoryBank.open(path)


def test_frames_come_back_as_written_also_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ragged, "CHUNK_ROWS", 64)
    rng = np.random.default_rng(0)
    banks = [random_bank(rng, size) for size in (50, 7, 300, 3, 90)]
    stored = write(tmp_path, banks)
    assert (stored.frames, stored.voxel_size_m, stored.cameras) == (3, 0.1, ("front",))
    assert stored.scenes() == ["scene"] and stored.attributes("scene") == {"num_frames": 5}
    for index in (4, 0, 2, 1, 3):
        read = stored.frame("scene", index)
        for name in FrameBank.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(read, name), getattr(banks[index], name), err_msg=name)
            assert getattr(read, name).dtype == getattr(banks[index], name).dtype


def test_a_frame_that_nothing_teaches_is_kept(tmp_path: Path) -> None:
    empty = random_bank(np.random.default_rng(0), 30).within(0)
    read = write(tmp_path, [empty]).frame("scene", 0)
    assert (read.point_target == -1).all() and len(read.point_target) == 30 and len(read.age) == 0


def test_what_is_not_a_bank_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no memory bank; run lima stage build-memory"):
        MemoryBank.open(tmp_path)
    bank = write(tmp_path, [random_bank(np.random.default_rng(0), 30)])
    with pytest.raises(StoreError, match=r"was built for 3 frames and cannot serve 4; run .* --frames 4"):
        bank.frame("scene", 0, frames=4)
    with pytest.raises(StoreError, match="holds no scene 'other'"):
        bank.frame("other", 0)
    zarr.open_group(tmp_path / FOLDER, mode="a").attrs["schema"] = "lima-memory-bank/99"
    with pytest.raises(StoreError, match="memory bank of schema 'lima-memory-bank/99', this version reads"):
        MemoryBank.open(tmp_path)


def test_a_lost_chunk_is_an_error_and_not_zeros(tmp_path: Path) -> None:
    write(tmp_path, [random_bank(np.random.default_rng(0), 30)])
    shutil.rmtree(tmp_path / FOLDER / "scene/references/age/c")
    with pytest.raises(StoreError, match="array age has 0 of 1 chunks; remove the artifact and build it again"):
        MemoryBank.open(tmp_path).frame("scene", 0)


def test_a_truncated_chunk_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, [random_bank(np.random.default_rng(0), 30)])
    chunk = tmp_path / FOLDER / "scene/references/u/c/0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(StoreError, match="frame 0 cannot be decoded"):
        MemoryBank.open(tmp_path).frame("scene", 0)
