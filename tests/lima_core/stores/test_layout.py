"""Stores read by others: by what docs/stores.md says and nothing of ours, and by the Zarr readers that it names."""

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lima_core.seeds import numpy_rng
from lima_core.stores import feature_writer, memory_bank
from lima_core.stores.basis import fit_basis, write_basis
from lima_core.stores.feature_store import FeatureFacts, FeatureStore, create_store, finish_store
from lima_core.stores.memory_bank import FrameBank, MemoryBank, create_bank

DOC = Path(__file__).parents[3] / "docs" / "stores.md"
FORMATS = {
    "bool": "?",
    "int8": "b",
    "uint8": "B",
    "uint16": "H",
    "int32": "i",
    "int64": "q",
    "float16": "e",
    "float32": "f",
}
CAMERAS, SCENES = ("front", "back"), ("s0", "s1")
NUM_FRAMES = 3


def crc32c(data: bytes) -> int:
    """Bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


class Documented:
    """An array, read as docs/stores.md says."""

    def __init__(self, folder: Path) -> None:
        told = json.loads((folder / "zarr.json").read_text())
        self.shape, self.format = told["shape"], FORMATS[told["data_type"]]
        self.data = folder.joinpath("c", *["0"] * len(self.shape)).read_bytes()
        self.width = int(np.prod(self.shape[1:], dtype=int))
        row_bytes, num_rows = self.width * struct.calcsize(f"<{self.format}"), self.shape[0]
        (codec,) = told["codecs"]
        chunk_rows = codec["configuration"]["chunk_shape"][0]
        self.row_bytes, num_chunks = row_bytes, -(-num_rows // chunk_rows)
        end = num_chunks * chunk_rows * row_bytes
        assert told["chunk_grid"]["configuration"]["chunk_shape"] == [max(num_chunks, 1) * chunk_rows, *self.shape[1:]]
        assert self.data[num_rows * row_bytes : end] == bytes(end - num_rows * row_bytes)
        index = b"".join(
            struct.pack("<QQ", j * chunk_rows * row_bytes, chunk_rows * row_bytes) for j in range(num_chunks)
        )
        assert self.data[end:] == index + struct.pack("<I", crc32c(index))

    def rows(self, start: int, stop: int) -> list[tuple]:
        """Rows as tuples of numbers."""
        return [
            struct.unpack_from(f"<{self.width}{self.format}", self.data, row * self.row_bytes)
            for row in range(start, stop)
        ]


def write_features(artifact: Path, codec: str) -> np.ndarray:
    """A store of two scenes; returns the exact features of the first, (F, cameras, 2, 3, 4) float32."""
    facts = FeatureFacts(4, 14, (28, 42), (2, 3), codec, "made up", CAMERAS, SCENES)
    features = numpy_rng(0, "features").normal(size=(NUM_FRAMES, 2, 2, 3, 4)).astype(np.float32)
    create_store(artifact, facts)
    if codec.startswith("pca"):
        write_basis(artifact, fit_basis([features], 4, int(codec[3:])))
    for scene in SCENES:
        with feature_writer.write_scene(artifact, facts, scene) as writer:
            for number, frame in enumerate(features):
                writer.append(frame, np.array([True, number != 1]))
    finish_store(artifact)
    return features


def write_bank(artifact: Path) -> list[FrameBank]:
    """A bank of two scenes; returns the frames of the first."""
    rng = numpy_rng(0, "bank")
    create_bank(artifact, 6, 0.1, CAMERAS, SCENES)
    frames = []
    for num_points in (5, 0, 7):
        num_references = rng.integers(1, 4, num_points // 2).astype(np.uint16)
        point_target = rng.integers(-1, max(num_points // 2, 1), num_points).astype(np.int32)
        age, camera = rng.integers(0, 2, (2, num_references.sum())).astype(np.uint8)
        u, v = rng.integers(0, 65536, (2, num_references.sum())).astype(np.uint16)
        frames.append(FrameBank(point_target, num_references, age, camera, u, v))
    for scene in SCENES:
        with memory_bank.write_scene(artifact, scene) as writer:
            for bank in frames:
                writer.append(bank)
    return frames


@pytest.mark.parametrize("codec", ["float16", "int8", "pca2"])
def test_features_are_where_the_page_says(tmp_path: Path, codec: str) -> None:
    write_features(tmp_path, codec)
    part = tmp_path / "features.zarr" / "s0"
    codes = np.array(Documented(part / "codes").rows(1, 3), np.float32).reshape(2, 2, 2, 3, -1)
    expected = FeatureStore.open(tmp_path).read("s0", 1, 3)
    if codec != "float16":
        token_scale = np.array(Documented(part / "token_scale").rows(1, 3), np.float32).reshape(2, 2, 2, 3, 1)
        codes = codes * token_scale * np.array(Documented(part / "channel_scale").rows(0, codes.shape[-1]))[:, 0]
    if codec == "pca2":
        codes = codes @ np.array(Documented(tmp_path / "basis.zarr").rows(0, 2))
    np.testing.assert_allclose(codes.reshape(-1, 4), expected.table().numpy(), rtol=1e-5, atol=1e-6)
    assert Documented(part / "has_image").rows(0, 3) == [(True, True), (True, False), (True, True)]
    told = json.loads((tmp_path / "features.zarr" / "zarr.json").read_text())["attributes"]
    assert (told["schema"], told["scenes"], told["grid"]) == ("lima-features/2", ["s0", "s1"], [2, 3])


def test_a_bank_is_where_the_page_says(tmp_path: Path) -> None:
    frames = write_bank(tmp_path)
    part = tmp_path / "memory.zarr" / "s0"
    starts = Documented(part / "frame_start").rows(0, NUM_FRAMES + 1)
    bank = MemoryBank.open(tmp_path)
    for number, expected in enumerate(frames):
        columns = ("point_target", "num_references", "view", "position")
        spans = zip(columns, starts[number], starts[number + 1], strict=True)
        point_target, num_references, view, position = (Documented(part / name).rows(*span) for name, *span in spans)
        read = bank.frame("s0", number)
        for found in (read, expected):
            assert [value for (value,) in point_target] == found.point_target.tolist()
            assert [value for (value,) in num_references] == found.num_references.tolist()
            assert view == list(zip(found.age.tolist(), found.camera.tolist(), strict=True))
            assert position == list(zip(found.u.tolist(), found.v.tolist(), strict=True))


def test_checksums_are_those_of_the_page(tmp_path: Path) -> None:
    write_features(tmp_path, "int8")
    part = tmp_path / "features.zarr" / "s1"
    told = json.loads((part / "zarr.json").read_text())["attributes"]["files"]
    files = [path for path in part.rglob("*") if path.is_file() and path != part / "zarr.json"]
    found = {path.relative_to(part).as_posix(): path.read_bytes() for path in files}
    assert told == {name: [len(data), f"{crc32c(data):08x}"] for name, data in found.items()}
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C


def snippet(word: str) -> str:
    """The first Python block of the page with ``word`` in it."""
    blocks = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)
    return next(block for block in blocks if word in block)


def run_snippet(word: str, **names: Any) -> dict[str, Any]:
    exec(snippet(word), names)
    return names


def test_zarr_python_reads_features_in_the_lines_of_the_page(tmp_path: Path) -> None:
    write_features(tmp_path, "int8")
    window = run_snippet("import zarr", artifact=tmp_path)["window"]
    expected = FeatureStore.open(tmp_path).read("s0", 0, 2).table().numpy()
    np.testing.assert_array_equal(window.reshape(-1, 4), expected)


def test_numpy_reads_codes_in_the_lines_of_the_page(tmp_path: Path) -> None:
    write_features(tmp_path, "int8")
    codes = run_snippet("np.memmap", artifact=tmp_path, scene="s0")["codes"]
    np.testing.assert_array_equal(codes, FeatureStore.open(tmp_path).read("s0", 0, NUM_FRAMES).codes)


def test_tensorstore_reads_a_bank_in_the_lines_of_the_page(tmp_path: Path) -> None:
    pytest.importorskip("tensorstore", reason="tensorstore is not installed")
    frames = write_bank(tmp_path)
    position = run_snippet("import tensorstore", artifact=tmp_path, scene="s0")["position"]
    np.testing.assert_array_equal(position, np.concatenate([np.stack([bank.u, bank.v], axis=1) for bank in frames]))


def arrays_below(root: Path) -> list[Path]:
    files = [path for path in root.rglob("zarr.json") if json.loads(path.read_text())["node_type"] == "array"]
    return [path.parent for path in files]


def zarrs_reader(folder: Path) -> np.ndarray:
    pytest.importorskip("zarrs", reason="zarrs is not installed")
    import zarr

    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        return zarr.open_array(folder, mode="r")[...]


def tensorstore_reader(folder: Path) -> np.ndarray:
    tensorstore = pytest.importorskip("tensorstore", reason="tensorstore is not installed")
    store = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{folder}/"}}
    return tensorstore.open(store, read=True).result().read().result()


def zarr_reader(folder: Path) -> np.ndarray:
    import zarr

    return zarr.open_array(folder, mode="r")[...]


@pytest.mark.parametrize("reader", [zarr_reader, zarrs_reader, tensorstore_reader])
def test_every_array_is_the_same_to_every_reader(tmp_path: Path, reader: Callable[[Path], np.ndarray]) -> None:
    write_features(tmp_path, "pca2")
    write_bank(tmp_path)
    folders = arrays_below(tmp_path)
    assert len(folders) == 2 * (4 + 5) + 1
    for folder in folders:
        documented = Documented(folder)
        found, expected = reader(folder), documented.rows(0, documented.shape[0])
        assert list(found.shape) == documented.shape
        assert [tuple(row.reshape(-1).tolist()) for row in found] == expected
