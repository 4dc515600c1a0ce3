"""Every layout gives back what was written, warm and cold; those of packages that are not here are left out."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import bench_layouts
from benchmarks.layouts import plain, shards, streams
from benchmarks.layouts.cases import Reads, drop, reading, writing
from benchmarks.layouts.data import CAMERAS, DataSet
from benchmarks.layouts.layout import Layout
from lima_core.seeds import numpy_rng
from pipeline.bench.harness import Options, measure, rows


def bank(num_points: int) -> dict[str, np.ndarray]:
    rng = numpy_rng(0, "bank", num_points)
    num_references = rng.integers(1, 4, num_points // 2).astype(np.uint16)
    num = int(num_references.sum())
    view, position = rng.integers(0, 6, (num, 2)).astype(np.uint8), rng.integers(0, 65536, (num, 2)).astype(np.uint16)
    point_target = rng.integers(-1, num_points // 2, num_points).astype(np.int32)
    return {"point_target": point_target, "num_references": num_references, "view": view, "position": position}


@pytest.fixture(scope="module")
def data() -> DataSet:
    rng = numpy_rng(0, "codes")
    codes = rng.integers(-127, 128, (9, CAMERAS, 4, 8, 16)).astype(np.int8)
    return DataSet(2, codes, rng.random((9, CAMERAS, 4, 8), np.float32), tuple(map(bank, (20_000, 31, 300))))


@pytest.fixture(scope="module")
def written(data: DataSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Layout]]:
    root, windows = tmp_path_factory.mktemp("layouts"), data.windows(4, "windows")
    layouts = [plain.lima_layout(data), *plain.LAYOUTS, *shards.layouts(), *streams.layouts(data, windows)]
    bench_layouts.write_all(root, layouts, data)
    return root, layouts


def test_scenes_differ_and_windows_are_spread(data: DataSet) -> None:
    assert not np.array_equal(data.scene(0).patches["codes"], data.scene(1).patches["codes"])
    assert data.windows(4, "windows") == data.windows(4, "windows") and len(set(data.windows(8, "windows"))) == 8
    scene, frame = data.windows(1, "windows")[0]
    assert sum(array.nbytes for array in data.scene(scene).sample(frame)) == data.window_bytes([(scene, frame)])


@pytest.mark.parametrize("threads", [1, 2])
def test_every_layout_returns_what_was_written(written: tuple[Path, list[Layout]], data: DataSet, threads: int) -> None:
    root, layouts = written
    assert {plain.MEMMAP, plain.LIMA, "safetensors", "tar, own index"} <= {layout.name for layout in layouts}
    for layout in layouts:
        if not (layout.in_order and threads > 1):
            Reads(root, layout, data, data.windows(4, "windows"), threads).prepare()()


def test_a_layout_that_returns_something_else_is_found_out(written: tuple[Path, list[Layout]], data: DataSet) -> None:
    root, layouts = written
    wrong = replace(layouts[0], name="wrong", arrays=lambda read: plain.arrays_of(read)[::-1])
    with pytest.raises(AssertionError, match="wrong"):
        Reads(root, wrong, data, data.windows(4, "windows"), 1).prepare()


def test_dropped_files_are_out_of_the_page_cache(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 20))
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    assert drop(path) == 0.0


def test_lima_is_measured_against_memmap(written: tuple[Path, list[Layout]], data: DataSet) -> None:
    root, layouts = written
    two = [layout for layout in layouts if layout.name in (plain.LIMA, plain.MEMMAP)]
    case = reading(root, two, data, data.windows(4, "windows"), threads=1, cold=False)
    line = {"title": case.title, "facts": dict(case.facts), "rows": rows(case, measure(case, Options(size="tiny")))}
    bench_layouts.finish(line)
    assert all(row["disk_bytes_per_frame"] > 0 and row["files_per_scene"] > 1 for row in line["rows"])
    (said,) = bench_layouts.said([line], "cpu")
    assert said.startswith("random windows, warm, 1 thread: lima reads at ") and said.endswith("% of np.memmap")


def test_scenes_are_written_by_all(tmp_path: Path, data: DataSet) -> None:
    case = writing(tmp_path, bench_layouts.writers(data), data.scene(0), flushed=True)
    measured = measure(case, Options(size="tiny"))
    assert measured.failed == {} and set(measured.times_ms) == {contestant.name for contestant in case.contestants}
