import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lima_core.errors import StoreError
from lima_core.stores.frame_index import FILE, METADATA_KEY, FrameIndex
from lima_core.types import Camera, DatasetFacts, Frame

FACTS = DatasetFacts(name="toy", classes=("road", "car"), cameras=("front", "side"), intensity_max=255.0,
                     synthetic=True, extra={"version": "v1.0-mini"})  # fmt: skip
DATASET = {"name": "folder", "keyframe_stride": 2, "class_map": None}


def camera(name: str, rng: np.random.Generator, distorted: bool) -> Camera:
    distortion = rng.normal(size=5) if distorted else None
    return Camera(name, f"samples/{name}.jpg", 1600, 900, int(rng.integers(1 << 52)), rng.normal(size=(3, 3)),
                  rng.normal(size=(4, 4)) * 1e4 / 3, distortion)  # fmt: skip


def frame(scene: str, index: int) -> Frame:
    rng = np.random.default_rng([len(scene), index])
    cameras = (camera("front", rng, distorted=index == 1), None if index == 0 else camera("side", rng, distorted=False))
    return Frame(
        scene=scene,
        index=index,
        token=f"{scene}_{index}",
        split="val" if index == 2 else "train",
        timestamp_us=1_532_402_927_647_951 + index,
        points=f"{index}.bin",
        labels=None if index == 1 else f"{index}.label",
        global_from_lidar=rng.normal(size=(4, 4)) / 7,
        cameras=cameras,
    )


FRAMES = [frame(scene, index) for scene in ("zz", "a") for index in range(3)]


def assert_same(left: object, right: object) -> None:
    """Equal field by field, arrays bit for bit."""
    assert type(left) is type(right)
    for field in fields(left):
        first, second = getattr(left, field.name), getattr(right, field.name)
        if isinstance(first, np.ndarray):
            assert first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()
        elif field.name == "cameras":
            for one, other in zip(first, second, strict=True):
                assert (one is None) == (other is None)
                if one is not None:
                    assert_same(one, other)
        else:
            assert type(first) is type(second) and first == second


def test_frames_come_back_bit_for_bit(tmp_path: Path) -> None:
    index = FrameIndex.write(tmp_path, FRAMES, FACTS, DATASET)
    for read, written in zip(index.frames(), FRAMES, strict=True):
        assert_same(read, written)
    assert index.facts == FACTS and index.dataset == DATASET


def test_scenes_keep_file_order_and_filters_apply(tmp_path: Path) -> None:
    index = FrameIndex.write(tmp_path, FRAMES, FACTS, DATASET)
    assert index.scenes() == ("zz", "a") and index.scenes("none") == ()
    assert [frame.token for frame in index.frames("a")] == ["a_0", "a_1", "a_2"]
    assert [frame.token for frame in index.frames(split="val")] == ["zz_2", "a_2"]
    assert [frame.token for frame in index.frames("zz", "train")] == ["zz_0", "zz_1"]
    assert index.frames("zz", "none") == ()
    assert_same(index.frames("a")[1], FRAMES[4])


def test_a_scene_is_read_without_a_look_at_the_others(tmp_path: Path) -> None:
    index = FrameIndex.write(tmp_path, FRAMES, FACTS, DATASET)
    index._scene = index._split = None
    assert [frame.token for frame in index.frames("a")] == ["a_0", "a_1", "a_2"]


def test_a_scene_in_several_places_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"^frames of a scene do not lie together in the frame index; build it again$"):
        FrameIndex.write(tmp_path, [FRAMES[0], FRAMES[3], FRAMES[1]], FACTS, DATASET)


def test_counts_and_frames_by_number(tmp_path: Path) -> None:
    index = FrameIndex.write(tmp_path, FRAMES, FACTS, DATASET)
    assert index.splits() == {"train": 4, "val": 2} and index.rows("val").tolist() == [2, 5]
    assert index.num_images().tolist() == [sum(camera is not None for camera in one.cameras) for one in FRAMES]
    for read, number in zip(index.at(np.array([5, 1, 1])), (5, 1, 1), strict=True):
        assert_same(read, FRAMES[number])
    empty = FrameIndex.write(tmp_path, [], FACTS, DATASET)
    assert empty.splits() == {} and empty.scenes() == () and empty.num_images().tolist() == []


def test_arrays_are_writable_so_that_torch_takes_them(tmp_path: Path) -> None:
    read = FrameIndex.write(tmp_path, FRAMES, FACTS, DATASET).frames()[1]
    read.global_from_lidar[0, 0] = 1
    read.cameras[0].intrinsics[0, 0] = 1
    assert read.cameras[1].global_from_camera.flags.writeable


def test_a_data_set_without_cameras_or_labels(tmp_path: Path) -> None:
    bare = [replace(one, cameras=(), labels=None) for one in FRAMES]
    index = FrameIndex.write(tmp_path, bare, replace(FACTS, cameras=(), classes=()), DATASET)
    assert_same(index.frames("a")[2], bare[5])
    nothing = [replace(one, cameras=(None, None)) for one in FRAMES]
    assert_same(FrameIndex.write(tmp_path, nothing, FACTS, DATASET).frames()[0], nothing[0])


def test_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    FrameIndex.write(tmp_path / "one", FRAMES, FACTS, DATASET)
    FrameIndex.write(tmp_path / "two", FRAMES, FACTS, dict(reversed(DATASET.items())))
    assert (tmp_path / "one" / FILE).read_bytes() == (tmp_path / "two" / FILE).read_bytes()
    assert [path.name for path in (tmp_path / "one").iterdir()] == [FILE]


def test_unknown_scene(tmp_path: Path) -> None:
    index = FrameIndex.write(tmp_path, FRAMES, FACTS, DATASET)
    with pytest.raises(StoreError, match="no scene 'zzz' in the frame index; did you mean 'zz'"):
        index.frames("zzz")


def test_missing_index(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        FrameIndex.open(tmp_path)
    assert str(caught.value) == f"{tmp_path / FILE}: no frame index; build it with: lima stage index"


def test_other_schema_version(tmp_path: Path) -> None:
    FrameIndex.write(tmp_path, FRAMES, FACTS, DATASET)
    table = pq.read_table(tmp_path / FILE)
    header = json.loads(table.schema.metadata[b"lima"]) | {"schema": 7}
    pq.write_table(table.replace_schema_metadata({b"lima": json.dumps(header)}), tmp_path / FILE)
    with pytest.raises(StoreError) as caught:
        FrameIndex.open(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / FILE}: has schema version 7, this program reads 1; build it again with: lima stage index"
    )


@pytest.mark.parametrize("keep", [0, 3, 200, -1])
def test_truncated_index(tmp_path: Path, keep: int) -> None:
    FrameIndex.write(tmp_path, FRAMES, FACTS, DATASET)
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[:keep])
    with pytest.raises(StoreError, match=r"frames\.parquet: is no readable frame index \(.*\); build it again"):
        FrameIndex.open(tmp_path)


def test_some_other_parquet_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / FILE)
    with pytest.raises(StoreError, match="is no readable frame index"):
        FrameIndex.open(tmp_path)


def header(text: bytes) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.replace_schema_metadata({METADATA_KEY: text})


def without(*keys: str) -> Callable[[pa.Table], pa.Table]:
    def damaged(table: pa.Table) -> pa.Table:
        told = json.loads(table.schema.metadata[METADATA_KEY])
        place = told
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]
        return header(json.dumps(told).encode())(table)

    return damaged


DAMAGES = {
    "no json": header(b"{"),
    "no text": header(b"\xff\xfe"),
    "a list": header(b"[]"),
    "no schema": without("schema"),
    "no facts": without("facts"),
    "no cameras": without("facts", "cameras"),
    "no name": without("facts", "name"),
    "no data set": without("dataset"),
    "no column": lambda table: table.drop_columns(["cameras"]),
    "no scene": lambda table: table.drop_columns(["scene"]),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_header_is_one_line(tmp_path: Path, damage: Callable[[pa.Table], pa.Table]) -> None:
    FrameIndex.write(tmp_path, FRAMES, FACTS, DATASET)
    pq.write_table(damage(pq.read_table(tmp_path / FILE)), tmp_path / FILE)
    with pytest.raises(StoreError, match=r"frames\.parquet: is no readable frame index \([^\n]+\); build it again$"):
        FrameIndex.open(tmp_path)
