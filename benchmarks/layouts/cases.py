"""Layouts as contestants: random windows with warm and cold files, and scenes written from first frame to last."""

import ctypes
import mmap
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.layouts.data import DataSet, Scene
from benchmarks.layouts.layout import Layout, Read
from benchmarks.layouts.plain import MEMMAP
from lima_core.whole import fsync_tree
from pipeline.bench.harness import Case, Contestant

Windows = Sequence[tuple[int, int]]
LEFT_IN_CACHE = 0.01
"""Share of pages that may be left where files are said to be cold."""


@dataclass
class Reads:
    """One layout's reads of the windows."""

    root: Path
    layout: Layout
    data: DataSet
    windows: Windows
    threads: int
    read: Read | None = None

    def prepare(self) -> Callable[[], object]:
        """Opens the layout and compares what it returns with what was written."""
        self.read = self.layout.open(self.root / self.layout.files, self.data)
        for scene, frame in self.windows[:3]:
            found, expected = self.layout.arrays(self.read(scene, frame)), self.data.scene(scene).sample(frame)
            for one, other in zip(found, expected, strict=True):
                assert one.dtype == other.dtype and np.array_equal(one, other), (self.layout.name, one.shape)
        return self.run

    def forget(self) -> None:
        """Opens the layout anew, for what is mapped stays in the page cache, and takes its files out of that."""
        folder = self.root / self.layout.files
        self.read = self.layout.open(folder, self.data)
        left = [drop(path) for path in folder.rglob("*") if path.is_file()]
        assert max(left) <= LEFT_IN_CACHE, f"{max(left):.0%} of a file stayed in the page cache"

    def run(self) -> object:
        """Reads all windows."""
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(self._run, [self.windows[number :: self.threads] for number in range(self.threads)]))

    def _run(self, windows: Windows) -> None:
        assert self.read is not None
        for scene, frame in windows:
            self.read(scene, frame)


def drop(path: Path) -> float:
    """Takes a clean file out of the page cache; the share of its pages that stayed."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        size = os.fstat(descriptor).st_size
        return _cached_share(descriptor, size) if size else 0.0
    finally:
        os.close(descriptor)


def _cached_share(descriptor: int, size: int) -> float:
    """By mincore(2), which looks without reading anything in."""
    pages = np.zeros(-(-size // mmap.PAGESIZE), np.uint8)
    with mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY) as mapping:
        start = ctypes.c_char.from_buffer(mapping)
        failed = ctypes.CDLL(None).mincore(
            ctypes.byref(start), ctypes.c_size_t(size), ctypes.c_void_p(pages.ctypes.data)
        )
        del start  # or the mapping cannot be closed
    assert not failed
    return float((pages & 1).mean())


def reading(root: Path, layouts: Sequence[Layout], data: DataSet, windows: Windows, threads: int, cold: bool) -> Case:
    """The case of one temperature and number of threads."""
    contestants = []
    for layout in layouts:
        if layout.in_order and threads > 1:
            continue
        reads = Reads(root, layout, data, windows, threads)
        facts = {"num_bytes": data.window_bytes(list(windows)), "items": len(windows)}
        yardstick = {"references": (MEMMAP,), "yardstick": layout.name == MEMMAP}
        before = {"before": reads.forget, "repeats": False} if cold else {}
        contestants.append(Contestant(layout.name, reads.prepare, **facts, **yardstick, **before))
    title = f"random windows, {'cold' if cold else 'warm'}, {threads} thread{'s' * (threads > 1)}"
    disk = {layout.name: disk_use(root / layout.files, data, layout.in_order) for layout in layouts}
    sample_mb = round(data.window_bytes(list(windows)) / len(windows) / 1e6, 2)
    return Case(title, {"windows": len(windows), "MB a window": sample_mb, "disk": disk}, contestants)


def disk_use(folder: Path, data: DataSet, is_stream: bool) -> dict[str, float]:
    """Bytes per frame and files per scene; a stream has a window for every frame, here only those that are read."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    if is_stream:
        return {"disk_bytes_per_frame": data.window_bytes(data.windows(1, "windows"))}
    frames = data.num_scenes * data.num_frames
    return {"disk_bytes_per_frame": sum(sizes) / frames, "files_per_scene": len(sizes) / data.num_scenes}


def writing(
    root: Path, writers: dict[str, Callable[[Path, Sequence[Scene]], None]], scene: Scene, flushed: bool
) -> Case:
    """One scene, written to the page cache, or until it is on disk."""
    contestants = [_writes(root / "written", name, write, scene, flushed) for name, write in writers.items()]
    facts = {"frames": len(scene.starts) - 1, "MB": round(scene.num_bytes / 1e6, 1)}
    return Case(f"a scene written, {'on disk' if flushed else 'in the page cache'}", facts, contestants)


def _writes(
    folder: Path, name: str, write: Callable[[Path, Sequence[Scene]], None], scene: Scene, flushed: bool
) -> Contestant:
    def work() -> None:
        write(folder, [scene])
        if flushed:
            fsync_tree(folder)

    def before() -> None:
        shutil.rmtree(folder, ignore_errors=True)

    options = {"references": ("raw files",), "yardstick": name == "raw files", "items": len(scene.starts) - 1}
    return Contestant(name, lambda: work, before=before, repeats=False, num_bytes=scene.num_bytes, **options)
