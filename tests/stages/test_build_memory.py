"""build-memory: resumable by scene, without images, and honest about its own quality."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lima_core.datasets.folder import FolderConfig
from lima_core.errors import DataError
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.memory_bank import FrameBank, MemoryBank, SceneWriter
from lima_core.types import Resources
from stages import build_memory
from stages import index as index_stage
from tests.lima_core.datasets.tiny_folder import EGO_FROM_LIDAR, edit_line, frame_line, write_tiny_folder
from tests.lima_core.memory.toy_lidar import GROUND, World, beams, scan
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
    real = SceneWriter.append
    appended = []

    def dies_in_the_second_scene(self: SceneWriter, bank: FrameBank) -> None:
        if len(appended) == 8:
            raise KeyboardInterrupt
        appended.append(bank)
        real(self, bank)

    monkeypatch.setattr(SceneWriter, "append", dies_in_the_second_scene)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, "stopped", raw, index)
    monkeypatch.setattr(SceneWriter, "append", real)
    assert build(tmp_path, "stopped", raw, index) == expected
    assert tree(tmp_path / "stopped") == tree(tmp_path / "whole")


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


def test_a_lidar_alone_is_told_that_nothing_can_teach_it(tmp_path: Path) -> None:
    raw, index = index_of(tmp_path)
    seen = FrameIndex.open(index)
    (tmp_path / "blind").mkdir()
    blind = [replace(frame, cameras=()) for frame in seen.frames()]
    FrameIndex.write(tmp_path / "blind", blind, replace(seen.facts, cameras=()), seen.dataset)
    with pytest.raises(DataError, match=f"data set {seen.facts.name}: has no camera"):
        build(tmp_path, "memory", raw, tmp_path / "blind")


def test_an_empty_scan_is_named(tmp_path: Path) -> None:
    raw, index = index_of(tmp_path)
    scan = raw / "sequences/b/lidar/000003.bin"
    scan.write_bytes(b"")
    with pytest.raises(DataError, match=r"b/lidar/000003\.bin"):
        build(tmp_path, "memory", raw, index)
    assert not (tmp_path / "memory/memory.zarr/b").exists()
    assert (tmp_path / "memory/memory.zarr/a").exists()


WALL, CAR = ((25.0, -30.0, 0.0), (26.0, 30.0, 8.0)), ((9.0, 1.0, 0.0), (13.0, 3.0, 1.5))
FORWARD = [[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]
OFF = {"occlusion": None, "free_space": None, "growth_range_m": None}
ON = {"fallback": 2}


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data root and index of drives towards a wall; a car stands beside the road and is gone from frame 3 on."""
    root = tmp_path_factory.mktemp("street")
    raw, out = root / "raw", root / "index"
    raw.mkdir()
    out.mkdir()
    write_tiny_folder(raw)
    for sequence in ("a", "b"):
        for number in range(6):
            write_street_frame(raw / "sequences" / sequence, number)
    index_stage.run(index_stage.Config(dataset=FolderConfig()), index_stage.Inputs(raw), out, Resources())
    return raw, out


def write_street_frame(folder: Path, number: int) -> None:
    line = frame_line(number)
    global_from_lidar = np.array(line["global_from_ego"]) @ np.array(EGO_FROM_LIDAR)
    position, yaw = global_from_lidar[:2, 3], np.arctan2(global_from_lidar[1, 0], global_from_lidar[0, 0])
    world = World((WALL, CAR) if number < 3 else (WALL,))
    scanned = scan(world, beams(1.5), tuple(position), yaw, step_deg=0.6)
    columns = np.zeros((len(scanned.xyz), 5), dtype=np.float32)
    columns[:, 1:4] = scanned.xyz
    columns.tofile(folder / line["points"])
    raw_id = np.select([scanned.hit == GROUND, scanned.hit == 0], [3, 40], 5)
    raw_id.astype(np.uint16).tofile(folder / line["labels"])
    camera = [[*row, at] for row, at in zip(FORWARD, (number + 1.5, 0.0, 1.5), strict=True)] + [[0.0, 0.0, 0.0, 1.0]]
    edit_line(
        folder / "frames.jsonl", number + 1, lambda value: value["cameras"]["front"].update(global_from_camera=camera)
    )


def build_street(root: Path, name: str, street: tuple[Path, Path], workers: int = 0, **kwargs: object) -> dict:
    out = root / name
    out.mkdir()
    config = build_memory.Config(**{"voxel_size_m": 0.8, "frames": 5} | kwargs)
    return build_memory.run(config, build_memory.Inputs(*street), out, Resources(workers=workers))


def test_every_switch_shows_in_the_summary(tmp_path: Path, street: tuple[Path, Path]) -> None:
    off = build_street(tmp_path, "off", street, **OFF)
    occlusion = build_street(tmp_path, "occlusion", street, **{**OFF, "occlusion": {}})
    growth = build_street(tmp_path, "growth", street, **{**OFF, "growth_range_m": 10.0})
    fallback = build_street(tmp_path, "fallback", street, **OFF, fallback=2)
    assert 0.5 * off["references_per_frame"] < occlusion["references_per_frame"] < off["references_per_frame"]
    assert by_group(growth)["20-40 m"] > by_group(off)["20-40 m"] and growth["depth"] > off["depth"]
    assert by_group(growth)["0-10 m"] == by_group(off)["0-10 m"]
    assert all(fallback_row >= row for fallback_row, row in zip(*map(coverages, (fallback, off)), strict=True))
    assert fallback["coverage"] > off["coverage"]


def test_what_left_teaches_no_longer_what_lies_there_now(tmp_path: Path, street: tuple[Path, Path]) -> None:
    """Voxels of 2 m hold the car as well as the road that comes to light when it has gone."""
    off, gate = (
        build_street(tmp_path, name, street, **OFF | {"free_space": switch}, voxel_size_m=2.0)
        for name, switch in (("off", None), ("gate", {}))
    )
    assert 0.9 * off["references_per_frame"] < gate["references_per_frame"] < off["references_per_frame"]
    assert gate["purity_points"] > off["purity_points"]
    assert gate["by_window"][0] == off["by_window"][0]


def by_group(summary: dict) -> dict[str, float]:
    return {row["points"]: row["coverage"] for row in summary["by_group"]}


def coverages(summary: dict) -> list[float]:
    return [row["coverage"] for row in summary["by_window"]]


def test_groups_are_ranges_where_nobody_knows_what_moves(tmp_path: Path, street: tuple[Path, Path]) -> None:
    rows = build_street(tmp_path, "memory", street)["by_group"]
    assert [row["points"] for row in rows] == ["all", "0-10 m", "10-20 m", "20-40 m", "over 40 m"]
    assert sum(row["share"] for row in rows[1:]) == pytest.approx(1)


def test_with_all_switches_on_workers_write_the_same_bytes(tmp_path: Path, street: tuple[Path, Path]) -> None:
    summaries = [build_street(tmp_path, name, street, workers, **ON) for name, workers in (("alone", 0), ("two", 2))]
    assert summaries[0] == summaries[1]
    assert tree(tmp_path / "alone") == tree(tmp_path / "two")


@pytest.mark.parametrize("switches", [{}, ON], ids=["defaults", "fallback"])
def test_a_long_bank_serves_every_shorter_window_whatever_is_switched_on(
    tmp_path: Path, street: tuple[Path, Path], switches: dict
) -> None:
    summary = build_street(tmp_path, "long", street, **switches)
    long = MemoryBank.open(tmp_path / "long")
    for frames in (1, 3):
        rows = build_street(tmp_path, f"short{frames}", street, **switches | {"frames": frames})["by_window"]
        assert rows == summary["by_window"][:frames]
        short = MemoryBank.open(tmp_path / f"short{frames}")
        for frame in FrameIndex.open(street[1]).frames():
            read, built = long.frame(frame.scene, frame.index, frames), short.frame(frame.scene, frame.index)
            for name in FrameBank.__dataclass_fields__:
                np.testing.assert_array_equal(getattr(read, name), getattr(built, name), err_msg=name)


@pytest.mark.parametrize(
    "wrong", [{"growth_range_m": 0.0}, {"fallback": 5}, {"free_space": {"directions": "none"}}, {"occlusion": True}]
)
def test_switches_that_mean_nothing_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        build_memory.Config(**wrong)


def test_poses_that_fit_worse_than_a_voxel_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, index = index_of(tmp_path)
    opened = FrameIndex.open(index)
    for residual_cm, warns in ((100 * VOXEL_SIZE_M + 1, True), (100 * VOXEL_SIZE_M, False), (None, False)):
        folder = tmp_path / f"index-{residual_cm}"
        folder.mkdir()
        facts = replace(opened.facts, pose_residual_cm=residual_cm)
        FrameIndex.write(folder, opened.frames(), facts, opened.dataset)
        summary = build(tmp_path, f"memory-{residual_cm}", raw, folder)
        said = capsys.readouterr().err
        assert ("warning" in summary) == warns == ("build-memory: warning: poses fit to" in said)
