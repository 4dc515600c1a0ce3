"""The bank on disk: round trip over chunk borders, and what is said about banks that cannot be used."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from lima_core.checksums import seal
from lima_core.errors import StoreError
from lima_core.stores import ragged
from lima_core.stores.memory_bank import FOLDER, FrameBank, MemoryBank, create_bank, write_scene
from lima_core.stores.row_array import write_array


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
    create_bank(path, frames=3, voxel_size_m=0.1, cameras=("front",), scenes=("scene",))
    with write_scene(path, "scene") as writer:
        for bank in banks:
            writer.append(bank)
        writer.attributes = {"num_frames": len(banks)}
    return MemoryBank.open(path)


def test_frames_come_back_as_written_also_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ragged, "CHUNK_ROWS", 64)
    rng = np.random.default_rng(0)
    banks = [random_bank(rng, size) for size in (50, 7, 300, 3, 90)]
    stored = write(tmp_path, banks)
    assert (stored.frames, stored.voxel_size_m, stored.cameras) == (3, 0.1, ("front",))
    assert stored.scenes() == ("scene",) and stored.attributes()[0]["num_frames"] == 5
    for index in (4, 0, 2, 1, 3):
        read = stored.frame("scene", index)
        for name in FrameBank.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(read, name), getattr(banks[index], name), err_msg=name)
            assert getattr(read, name).dtype == getattr(banks[index], name).dtype


def test_a_frame_that_nothing_teaches_is_kept(tmp_path: Path) -> None:
    empty = random_bank(np.random.default_rng(0), 30).within(0)
    read = write(tmp_path, [empty]).frame("scene", 0)
    assert (read.point_target == -1).all() and len(read.point_target) == 30 and len(read.age) == 0


@pytest.mark.parametrize("chunk_rows", [64, 1 << 14])
def test_any_zarr_reader_opens_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_rows: int) -> None:
    monkeypatch.setattr(ragged, "CHUNK_ROWS", chunk_rows)
    rng = np.random.default_rng(0)
    banks = [random_bank(rng, size) for size in (50, 7, 300)]
    write(tmp_path, banks)
    scene = zarr.open_group(tmp_path / FOLDER, mode="r")["scene"]
    start = scene["frame_start"][...]
    assert start.shape == (4, 4) and scene["view"].chunks == (chunk_rows, 2)
    for index, bank in enumerate(banks):
        rows = [slice(*start[index : index + 2, column]) for column in range(4)]
        np.testing.assert_array_equal(scene["point_target"][rows[0]], bank.point_target)
        np.testing.assert_array_equal(scene["num_references"][rows[1]], bank.num_references)
        np.testing.assert_array_equal(scene["view"][rows[2]], np.stack([bank.age, bank.camera], 1))
        np.testing.assert_array_equal(scene["position"][rows[3]], np.stack([bank.u, bank.v], 1))


def test_what_is_not_a_bank_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no memory bank; build it with: lima stage build-memory"):
        MemoryBank.open(tmp_path)
    bank = write(tmp_path, [random_bank(np.random.default_rng(0), 30)])
    with pytest.raises(StoreError, match=r"was built for 3 frames and cannot serve 4; run .* --frames 4"):
        bank.frame("scene", 0, frames=4)
    with pytest.raises(StoreError, match="holds no scene 'other'"):
        bank.frame("other", 0)
    with pytest.raises(StoreError, match="frame 1 of a scene of 1 frames"):
        bank.frame("scene", 1)
    zarr.open_group(tmp_path / FOLDER, mode="a").attrs["schema"] = "lima-memory-bank/99"
    with pytest.raises(StoreError, match="memory bank of schema 'lima-memory-bank/99', this version reads"):
        MemoryBank.open(tmp_path)


def test_a_lost_array_is_an_error_and_not_zeros(tmp_path: Path) -> None:
    write(tmp_path, [random_bank(np.random.default_rng(0), 30)])
    shutil.rmtree(tmp_path / FOLDER / "scene/view/c")
    with pytest.raises(StoreError, match="view/c/0/0: is missing; run lima verify --repair"):
        MemoryBank.open(tmp_path).frame("scene", 0)


def test_a_truncated_array_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, [random_bank(np.random.default_rng(0), 30)])
    shard = tmp_path / FOLDER / "scene/position/c/0/0"
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(StoreError, match="position/c/0/0: truncated array"):
        MemoryBank.open(tmp_path).frame("scene", 0)


def test_a_lost_scene_is_told_when_the_bank_is_opened(tmp_path: Path) -> None:
    write(tmp_path, [random_bank(np.random.default_rng(0), 30)])
    (tmp_path / FOLDER / "scene/zarr.json").unlink()
    with pytest.raises(StoreError, match="0 of 1 scenes, the first missing is scene"):
        MemoryBank.open(tmp_path)


@pytest.mark.parametrize("starts", [np.zeros((3, 3), np.int64), np.zeros(3, np.int64), np.zeros((3, 4), np.float32)])
def test_frame_starts_of_other_columns_are_told(tmp_path: Path, starts: np.ndarray) -> None:
    write(tmp_path, [random_bank(np.random.default_rng(0), 30)])
    part = tmp_path / FOLDER / "scene"
    shutil.rmtree(part / "frame_start")
    write_array(part / "frame_start", starts)
    seal(part, {})
    line = r"frame_start: .* instead of int64 of shape \(n, 4\); run lima verify --repair$"
    with pytest.raises(StoreError, match=line):
        MemoryBank.open(tmp_path).frame("scene", 0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, None) for key in ("frames", "voxel_size_m", "cameras", "scenes")),
        ("frames", "many"),
        ("voxel_size_m", []),
        ("cameras", 3),
        ("scenes", "scene"),
        ("scenes", ["scene", 3]),
        ("scenes", ["../scene"]),
    ],
)
def test_a_declaration_that_lacks_something_is_told(tmp_path: Path, key: str, value: object) -> None:
    write(tmp_path, [random_bank(np.random.default_rng(0), 30)])
    group = tmp_path / FOLDER / "zarr.json"
    told = json.loads(group.read_text())
    if value is None:
        del told["attributes"][key]
    else:
        told["attributes"][key] = value
    group.write_text(json.dumps(told))
    with pytest.raises(StoreError, match=r"memory\.zarr.*: unreadable metadata \([^\n]+\); run lima verify --repair$"):
        MemoryBank.open(tmp_path)
