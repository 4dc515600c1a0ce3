"""Codecs of the feature store: fidelity, bytes and decoding seconds per frame, on a teacher's features.

python -m benchmarks.bench_codec DATA_ROOT [--dataset '{"name": "folder"}'] [--teacher '{"name": "filterbank"}']
python -m benchmarks.bench_codec --power-law 384

The basis of pca<D> is fitted to images, or tokens, that are not measured. A power-law spectrum with outlier channels
stands for a trained network: independent tokens of standard deviation k^-0.7 along random axes, two channels 10 times.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from lima_core.datasets import dataset_config, open_dataset
from lima_core.loading.images import load_image, to_tensor
from lima_core.seeds import numpy_rng
from lima_core.stores.basis import fit_basis, write_basis
from lima_core.stores.codec import bytes_per_frame, num_directions
from lima_core.stores.feature_store import FeatureFacts, Patches, create_store, finish_store
from lima_core.stores.feature_writer import write_scene
from lima_core.teachers import TeacherConfig, build_teacher

CAMERAS = ("0", "1", "2", "3", "4", "5")
SCENE = "measured"


def teachers_features(arguments: argparse.Namespace) -> tuple[str, np.ndarray]:
    """Identity, and features (2 F, 6, h, w, C) float32 of evenly spaced images, six of which make a frame."""
    dataset = open_dataset(dataset_config(arguments.dataset), arguments.data_root)
    images = [(f, c) for scene in dataset.scenes() for f in dataset.frames(scene) for c in f.cameras if c]
    count = 2 * arguments.frames * len(CAMERAS)
    assert count <= len(images), f"{count} of {len(images)} images"
    chosen = [images[(2 * i + 1) * len(images) // (2 * count)] for i in range(count)]
    pixels = [to_tensor(load_image(dataset, *one, tuple(arguments.image_size_px))[None])[0] for one in chosen]
    teacher = build_teacher(TypeAdapter(TeacherConfig).validate_json(arguments.teacher))
    teacher.fit(pixels)
    features = np.stack([teacher.encode(image[None])[0].numpy() for image in pixels])
    return teacher.identity, features.reshape(-1, len(CAMERAS), *features.shape[1:])


def power_law(channels: int, frames: int, grid: tuple[int, int] = (16, 28)) -> tuple[str, np.ndarray]:
    """Name, and features (2 F, 6, h, w, C) float32."""
    rng = numpy_rng(0, "power law")
    axes = np.linalg.qr(rng.normal(size=(channels, channels)))[0]
    deviation = np.arange(1, channels + 1) ** -0.7
    features = (rng.normal(size=(2 * frames, len(CAMERAS), *grid, channels)) * deviation) @ axes
    features[..., rng.permutation(channels)[:2]] *= 10
    return f"power law k^-0.7 of {channels} channels, two of them 10 times", features.astype(np.float32)


def codec_row(codec: str, features: np.ndarray, work: Path) -> dict:
    """Fidelity, size and speed of one codec on every second frame; the others fit the basis."""
    fitted, measured = features[0::2], features[1::2]
    channels, grid = features.shape[-1], features.shape[2:4]
    facts = FeatureFacts(channels, 1, grid, grid, codec, "measured", CAMERAS, (SCENE,))
    create_store(work, facts)
    if directions := num_directions(codec):
        write_basis(work, fit_basis(fitted, channels, directions))
    started = time.perf_counter()
    with write_scene(work, facts, SCENE) as writer:
        for frame in measured:
            writer.append(frame, np.ones(len(CAMERAS), bool))
    seconds = time.perf_counter() - started
    store = finish_store(work)
    fidelity = {name: round(value, 6) for name, value in asdict(store.fidelity()).items()}
    return {
        "codec": codec,
        "bytes_per_frame": bytes_per_frame(channels, grid, len(CAMERAS), codec),
        **fidelity,
        "write_and_measure_ms_per_frame": round(1000 * seconds / len(measured), 2),
        "decode_ms_per_frame": round(1000 * statistics.median(decode_seconds(store.read(SCENE, 0, 1))), 2),
    }


def decode_seconds(patches: Patches, passes: int = 20) -> Iterator[float]:
    """Of one frame, on the CPU, repeatedly."""
    for _ in range(passes):
        started = time.perf_counter()
        patches.table()
        yield time.perf_counter() - started


def main() -> None:
    """Prints the table and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", type=Path, nargs="?")
    parser.add_argument("--power-law", type=int, metavar="CHANNELS", help="instead of a data root")
    parser.add_argument("--dataset", type=json.loads, default={"name": "folder"})
    parser.add_argument("--teacher", default='{"name": "filterbank"}')
    parser.add_argument("--image-size-px", type=int, nargs=2, default=[224, 392])
    parser.add_argument("--frames", type=int, default=3, help="measured; as many again fit the basis")
    parser.add_argument("--codecs", nargs="+", default=["float16", "int8", "pca128", "pca64", "pca32"])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if (arguments.data_root is None) == (arguments.power_law is None):
        parser.error("give a data root, or --power-law CHANNELS")
    if arguments.data_root:
        name, features = teachers_features(arguments)
    else:
        name, features = power_law(arguments.power_law, arguments.frames)
    rows = []
    for codec in arguments.codecs:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(codec_row(codec, features, Path(folder)))
    result = {"features": name, "frame": list(features.shape[1:]), "codecs": rows}
    print(json.dumps(result, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
