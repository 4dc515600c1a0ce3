"""Layouts of stores on disk: random windows read warm and cold, scenes written, bytes and files, all in one run.

python -m benchmarks.bench_layouts [--size full] [--out FILE.json] [--work FOLDER]

A window is what a training sample needs: patch codes and token scales of six consecutive frames, and the bank of the
last. Every contestant returns the same arrays, in memory of its own; np.memmap of the raw bytes, copied, is what all
are measured against. *Cold* means that the files were taken out of the page cache (posix_fadvise, and mincore says that
they are out), which leaves whatever the machine below a virtual disk remembers; files are opened before. The data are
made up (``layouts/data.py``). With two threads and cold, only what stands for its kind runs.

Contestants whose packages are not installed are named; an environment with all of them, beside the project's:

python -m venv --system-site-packages /tmp/layouts && /tmp/layouts/bin/pip install -e . zarrs==0.2.3 tensorstore==0.1.86
/tmp/layouts/bin/pip install --no-deps ml_dtypes==0.5.4 litdata==0.2.76 webdataset==1.0.2 braceexpand==0.1.7
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.layouts import plain, shards, streams
from benchmarks.layouts.cases import reading, writing
from benchmarks.layouts.data import DataSet, Scene, made_data
from benchmarks.layouts.layout import Layout
from lima_core.software import package_version
from lima_core.whole import fsync_tree
from pipeline.bench.harness import Case, Options
from pipeline.bench.record import run
from pipeline.bench.text import as_text
from pipeline.process import keep_freed_memory

PACKAGES = ("zarrs", "tensorstore", "litdata", "webdataset")
SIZES = {"full": (8, 40, (16, 32), 384, 32), "quick": (4, 20, (16, 32), 384, 16), "tiny": (2, 8, (4, 8), 8, 4)}
"""Scenes, frames of a scene, patches of an image, channels, windows."""
COLD_WINDOWS = 16
LEFT_OUT = ("chunk a camera", "chunk of 8 frames", "chunk a frame, lz4", "chunk a frame, zstd: zarr")
"""Of all cases but the first, by how their names begin."""


def absent(options: Options) -> dict[str, str]:
    """Packages of contestants that are not here."""
    return {name: "not installed" for name in PACKAGES if not package_version(name)}


def cases(options: Options) -> Iterator[Case]:
    """Reads of every temperature and number of threads, then writes."""
    *shape, num_windows = SIZES[options.size]
    data = made_data(*shape, tiny=options.size == "tiny")
    windows = data.windows(num_windows, "windows")
    layouts = [plain.lima_layout(data), *plain.LAYOUTS, *shards.layouts(), *streams.layouts(data, windows)]
    with tempfile.TemporaryDirectory(prefix="lima-layouts-") as folder:
        root = Path(folder)
        write_all(root, layouts, data)
        yield reading(root, layouts, data, windows, threads=1, cold=False)
        layouts = [layout for layout in layouts if not layout.name.startswith(LEFT_OUT)]
        yield reading(root, layouts, data, windows, threads=2, cold=False)
        yield reading(root, layouts, data, windows[:COLD_WINDOWS], threads=1, cold=True)
        yield reading(root, layouts, data, windows[:COLD_WINDOWS], threads=2, cold=True)
        for flushed in (False, True):
            yield writing(root, writers(data), data.scene(0), flushed)


def write_all(root: Path, layouts: Sequence[Layout], data: DataSet) -> None:
    """Every layout once, on disk."""
    for layout in layouts:
        if not (root / layout.files).exists():
            layout.write(root / layout.files, data.scenes())
            fsync_tree(root / layout.files)


def writers(data: DataSet) -> dict[str, Callable[[Path, Sequence[Scene]], None]]:
    """How a scene can be written."""
    named = {"lima": plain.write_lima, "lima, without checksums": plain.write_unsealed, "raw files": plain.write_raw}
    named["safetensors"] = plain.write_safetensors
    named |= {f"zarr-python, {chunks.name}": shards.writer_of(chunks) for chunks in shards.CHUNKS}
    named["zarr-python, frame by frame into the shard"] = shards.write_frame_by_frame
    peers = {layout.name: layout.write for layout in streams.layouts(data, ()) if not layout.in_order}
    return named | peers


def finish(line: dict[str, Any]) -> None:
    """Puts what a layout takes on disk into its row."""
    disk = line["facts"].pop("disk", {})
    for row in line["rows"]:
        row |= disk.get(row["name"], {})


def said(cases: Sequence[dict[str, Any]], device: str) -> list[str]:
    """How fast lima reads, as a part of np.memmap's."""
    lines = []
    for case in cases:
        for row in case["rows"]:
            if row["name"] == plain.LIMA and row["faster_than"]["name"] == plain.MEMMAP:
                lines.append(f"{case['title']}: lima reads at {row['faster_than']['median']:.0%} of np.memmap")
    return lines


def main() -> None:
    """Measures, prints the tables and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=tuple(SIZES), default="full")
    parser.add_argument("--only", nargs="*", default=[], help="contestants whose names begin so")
    parser.add_argument("--work", type=Path, help="where the data set is written; some 6 GB at full size")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    tempfile.tempdir = arguments.work and str(arguments.work)
    keep_freed_memory()
    options = Options(size=arguments.size, only=tuple(arguments.only))
    print(as_text(run("layouts", sys.modules[__name__], options, arguments.out, print)))


if __name__ == "__main__":
    main()
