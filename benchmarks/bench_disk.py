"""Disk per frame of features and bank, by codec, against the naive way: a float16 feature for every point.

python -m benchmarks.bench_disk DATA_ROOT [--dataset JSON] [--teacher JSON] [--image-size-px 224 448] [--out FILE.json]

The bank is built of all frames (both splits) at its defaults; files are counted as they lie, metadata among them. Few
images are encoded, half of them fit the basis of pca<D>, which itself (98 kB at D = 64) is there once and not counted.
``--power-law 384`` puts tokens with the spectrum of a trained network in the teacher's place (``bench_codec``). Naive
is points x channels x 2 bytes, without what it would take to find them; it keeps one mean a point and no window.
"""

import argparse
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.bench_codec import codec_row, power_law, teachers_features
from lima_core.datasets import dataset_config
from lima_core.storage import files_below
from lima_core.stores import feature_store, memory_bank
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.memory_bank import MemoryBank
from lima_core.types import Resources
from pipeline.manifest import plain, provenance
from pipeline.text import table
from stages import build_memory, index

SPLITS = ("train", "val", "none")
RANDOM_VIT = '{"name": "huggingface", "random_init": true, "architecture": "dinov2-small"}'


def bank_facts(data_root: Path, dataset: dict[str, Any]) -> dict[str, float]:
    """Frames, points and bytes per frame of a bank of the whole data set."""
    with tempfile.TemporaryDirectory() as folder:
        indexed, memory = Path(folder, "index"), Path(folder, "memory")
        indexed.mkdir()
        memory.mkdir()
        index.run(index.Config(dataset=dataset_config(dataset)), index.Inputs(data_root), indexed, Resources())
        inputs = build_memory.Inputs(data_root, indexed)
        build_memory.run(build_memory.Config(splits=SPLITS), inputs, memory, Resources())
        bank, frames = MemoryBank.open(memory), FrameIndex.open(indexed).frames()
        points = sum(len(bank.frame(frame.scene, frame.index).point_target) for frame in frames)
        num_bytes = sum(files_below(memory / memory_bank.FOLDER).values())
    return {"frames": len(frames), "points": points / len(frames), "bank_bytes": num_bytes / len(frames)}


def disk_row(codec: str, features: Any, bank: dict[str, float]) -> dict[str, Any]:
    """One codec's bytes on disk, and what they are worth."""
    with tempfile.TemporaryDirectory() as folder:
        fidelity = codec_row(codec, features, Path(folder))
        sizes = files_below(Path(folder, feature_store.FOLDER))
    feature_bytes = sum(sizes.values()) / (len(features) // 2)
    naive = 2 * features.shape[-1] * bank["points"]
    return {
        "codec": codec,
        "feature_bytes": feature_bytes,
        "bank_bytes": bank["bank_bytes"],
        "naive_bytes": naive,
        "smaller": naive / (feature_bytes + bank["bank_bytes"]),
        "mean_cosine": fidelity["mean_cosine"],
        "p1_cosine": fidelity["p1_cosine"],
    }


def as_table(rows: list[dict[str, Any]]) -> str:
    """Kilobytes per frame, and the cosine between decoded and exact tokens."""
    header = ["codec", "features kB", "bank kB", "naive kB", "times smaller", "cosine", "1st percentile"]
    sizes = ("feature_bytes", "bank_bytes", "naive_bytes")
    return table(header, [
        [row["codec"], *(f"{row[name] / 1e3:.0f}" for name in sizes), f"{row['smaller']:.1f}",
         f"{row['mean_cosine']:.5f}", f"{row['p1_cosine']:.5f}"]
        for row in rows
    ])  # fmt: skip


def main() -> None:
    """Prints the table and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", type=Path)
    parser.add_argument("--dataset", type=json.loads, default={"name": "folder"})
    parser.add_argument("--teacher", default=RANDOM_VIT)
    parser.add_argument("--power-law", type=int, metavar="CHANNELS", help="instead of a teacher")
    parser.add_argument("--image-size-px", type=int, nargs=2, default=[224, 448])
    parser.add_argument("--frames", type=int, default=2, help="measured; as many again fit the basis")
    parser.add_argument("--codecs", nargs="+", default=["float16", "int8", "pca64"])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.power_law:
        name, features = power_law(arguments.power_law, arguments.frames)
    else:
        name, features = teachers_features(arguments)
    bank = bank_facts(arguments.data_root, arguments.dataset)
    rows = [disk_row(codec, features, bank) for codec in arguments.codecs]
    print(f"{name}; {bank['frames']} frames of {bank['points']:.0f} points; tokens {features.shape[1:]}")
    print(as_table(rows))
    if arguments.out:
        record = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "features": name, "rows": rows, "bank": bank}
        record |= {"frame": features.shape[1:], "provenance": provenance(Resources())}
        arguments.out.write_text(json.dumps(plain(record, "disk"), indent=1) + "\n")


if __name__ == "__main__":
    main()
