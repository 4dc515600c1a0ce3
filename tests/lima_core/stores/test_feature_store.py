import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from lima_core.checksums import seal
from lima_core.errors import DataError, StoreError
from lima_core.seeds import numpy_rng
from lima_core.stores.basis import fit_basis, has_basis, write_basis
from lima_core.stores.codec import Codec, num_directions
from lima_core.stores.feature_store import (
    FeatureFacts,
    FeatureStore,
    create_store,
    finish_store,
    unwritten_scenes,
)
from lima_core.stores.feature_writer import write_scene
from lima_core.stores.row_array import write_array

FACTS = FeatureFacts(
    channels=12,
    patch_px=8,
    image_size_px=(16, 24),
    grid=(2, 3),
    codec="int8",
    teacher="a teacher",
    cameras=("front", "back"),
    scenes=("s1", "s0"),
)
NUM_FRAMES = 5
HAS_IMAGE = np.array([[True, True], [False, True], [True, True], [False, False], [True, True]])


def features_of(scene: str) -> np.ndarray:
    """(F, cameras, h, w, C) float32."""
    return numpy_rng(0, scene).normal(size=(NUM_FRAMES, 2, 2, 3, 12)).astype(np.float32)


def declare(artifact: Path, facts: FeatureFacts) -> None:
    """Declares the store, and writes the basis where the codec has one and it is not there."""
    create_store(artifact, facts)
    if (directions := num_directions(facts.codec)) and not has_basis(artifact):
        write_basis(artifact, fit_basis(map(features_of, facts.scenes), facts.channels, directions))


def write_one(artifact: Path, facts: FeatureFacts, scene: str) -> None:
    with write_scene(artifact, facts, scene) as writer:
        for features, has_image in zip(features_of(scene), HAS_IMAGE, strict=True):
            writer.append(features, has_image)


def write_store(artifact: Path, facts: FeatureFacts) -> FeatureStore:
    declare(artifact, facts)
    for scene in facts.scenes:
        write_one(artifact, facts, scene)
    return finish_store(artifact)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("codec", ["int8", "float16", "pca12"])
def test_round_trip(tmp_path: Path, codec: Codec) -> None:
    write_store(tmp_path, replace(FACTS, codec=codec))
    store = FeatureStore.open(tmp_path)
    assert store.facts == replace(FACTS, codec=codec) and store.scenes() == ("s1", "s0")
    patches = store.read("s0", 1, 5)
    table = patches.table()
    assert table.shape == (4 * 2 * 2 * 3, 12) and table.dtype == torch.float32
    np.testing.assert_array_equal(patches.has_image, HAS_IMAGE[1:])
    decoded = table.reshape(4, 2, 2, 3, 12).numpy()
    exact = features_of("s0")[1:]
    assert (decoded[~HAS_IMAGE[1:]] == 0).all()
    np.testing.assert_allclose(decoded[HAS_IMAGE[1:]], exact[HAS_IMAGE[1:]], atol=2e-3 if codec == "float16" else 0.03)


def test_table_rows_are_frame_camera_row_column(tmp_path: Path) -> None:
    store = write_store(tmp_path, replace(FACTS, codec="float16"))
    table, exact = store.read("s1", 0, 5).table(), features_of("s1")
    frame, camera, row, column = 2, 1, 1, 2
    expected = exact[frame, camera, row, column].astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(table[((frame * 2 + camera) * 2 + row) * 3 + column].numpy(), expected)


def test_any_zarr_reader_reads_it(tmp_path: Path) -> None:
    store = write_store(tmp_path, FACTS)
    group = zarr.open_group(tmp_path / "features.zarr", mode="r")
    assert group.attrs["teacher"] == "a teacher" and group.attrs["grid"] == [2, 3]
    patches = store.read("s1", 0, 5)
    for name in ("codes", "token_scale", "channel_scale", "has_image"):
        np.testing.assert_array_equal(group[f"s1/{name}"][...], getattr(patches, name))


def test_pca_keeps_the_projection_and_a_tenth_of_the_bytes(tmp_path: Path) -> None:
    store = write_store(tmp_path, replace(FACTS, codec="pca3"))
    patches = store.read("s0", 0, 5)
    assert patches.codes.shape == (5, 2, 2, 3, 3) and patches.codes.dtype == np.int8
    exact = features_of("s0")[HAS_IMAGE].reshape(-1, 12)
    basis = fit_basis([features_of("s1"), features_of("s0")], 12, 3)
    expected = torch.from_numpy(exact @ basis.T @ basis)
    decoded = patches.table().reshape(5, 2, 2, 3, 12)[HAS_IMAGE].reshape(-1, 12)
    assert torch.nn.functional.cosine_similarity(decoded, expected).min() > 0.999
    lengths = decoded.norm(dim=1) / expected.norm(dim=1)
    assert (lengths - 1).abs().max() < 0.02


def test_pca_store_without_its_basis_is_refused(tmp_path: Path) -> None:
    facts = replace(FACTS, codec="pca3")
    write_store(tmp_path, facts)
    (tmp_path / "basis.zarr").rename(tmp_path / "gone")
    with pytest.raises(StoreError, match=r"basis\.zarr: is missing"):
        FeatureStore.open(tmp_path)
    with pytest.raises(StoreError, match="is missing; run lima verify"), write_scene(tmp_path, facts, "s0"):
        pytest.fail("a scene was begun without a basis")


def test_a_scene_may_be_called_basis(tmp_path: Path) -> None:
    facts = replace(FACTS, codec="pca3", scenes=("basis", "basis.zarr"))
    assert write_store(tmp_path, facts).read("basis", 0, 5).table().shape == (60, 12)


def test_store_from_before_the_centred_cosine_is_read(tmp_path: Path) -> None:
    store = write_store(tmp_path, FACTS)
    group = tmp_path / "features.zarr/s1/zarr.json"
    metadata = json.loads(group.read_text())
    for name in ("centred_mean_cosine", "centred_p1_cosine"):
        del metadata["attributes"]["fidelity"][name]
    group.write_text(json.dumps(metadata))
    assert store.fidelity().centred_mean_cosine is None and store.fidelity().mean_cosine > 0.9999


def test_channel_scale_comes_from_the_first_frame_with_an_image(tmp_path: Path) -> None:
    store = write_store(tmp_path, FACTS)
    first = features_of("s1")[0].reshape(-1, 12)
    np.testing.assert_allclose(store.read("s1", 4, 5).channel_scale, ((first**2).mean(0)) ** 0.25, rtol=1e-6)


@pytest.mark.parametrize("codec", ["int8", "float16", "pca12"])
def test_fidelity_and_counts_are_stored(tmp_path: Path, codec: Codec) -> None:
    store = write_store(tmp_path, replace(FACTS, codec=codec))
    cosines = []
    for scene in store.scenes():
        decoded = store.read(scene, 0, 5).table().reshape(5, 2, 2, 3, 12)[HAS_IMAGE]
        exact = torch.from_numpy(features_of(scene))[HAS_IMAGE]
        cosines.append(torch.nn.functional.cosine_similarity(decoded.double(), exact.double(), dim=-1).flatten())
    summary, whole = store.summaries()[0], store.fidelity()
    assert (summary.num_frames, summary.num_images, summary.num_missing_images) == (5, 7, 3)
    assert summary.fidelity.mean_cosine == pytest.approx(float(cosines[0].mean()), abs=1e-12)
    assert whole.mean_cosine == pytest.approx(float(torch.cat(cosines).mean()), abs=1e-12)
    assert whole.p1_cosine == pytest.approx(min(float(c.quantile(0.01)) for c in cosines), abs=3e-5)
    stored = json.loads((tmp_path / "features.zarr/zarr.json").read_text())["attributes"]["fidelity"]
    assert stored["mean_cosine"] == whole.mean_cosine and whole.mean_cosine > 0.9999


def test_scene_without_any_image(tmp_path: Path) -> None:
    facts = replace(FACTS, scenes=("dark",))
    create_store(tmp_path, facts)
    with write_scene(tmp_path, facts, "dark") as writer:
        for _ in range(2):
            writer.append(np.full((2, 2, 3, 12), np.nan, np.float32), np.zeros(2, bool))
    store = finish_store(tmp_path)
    assert (store.read("dark", 0, 2).table() == 0).all() and store.fidelity().num_tokens == 0


@pytest.mark.parametrize("codec", ["int8", "pca4"])
def test_interrupted_scene_leaves_nothing_and_the_rest_is_the_same(tmp_path: Path, codec: Codec) -> None:
    facts = replace(FACTS, codec=codec)
    write_store(tmp_path / "undisturbed", facts)
    out = tmp_path / "resumed"
    declare(out, facts)
    write_one(out, facts, "s1")
    with pytest.raises(KeyboardInterrupt), write_scene(out, facts, "s0") as writer:
        writer.append(features_of("s0")[0], HAS_IMAGE[0])
        raise KeyboardInterrupt
    assert unwritten_scenes(out, facts) == ["s0"]
    with pytest.raises(StoreError, match="1 of 2 scenes, the first missing is s0"):
        FeatureStore.open(out)
    declare(out, facts)
    (out / "features.zarr/s0.writing").mkdir()  # what kill -9 leaves behind
    (out / "features.zarr/s0.writing/zarr.json").write_text("{")
    write_one(out, facts, "s0")
    finish_store(out)
    assert files(out) == files(tmp_path / "undisturbed")


def test_other_teacher_in_an_unfinished_store_is_refused(tmp_path: Path) -> None:
    create_store(tmp_path, FACTS)
    with pytest.raises(StoreError, match="teacher = 'a teacher', now it is 'another'"):
        create_store(tmp_path, replace(FACTS, teacher="another"))


def test_missing_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no feature store; build it with: lima stage extract-features"):
        FeatureStore.open(tmp_path)


@pytest.mark.parametrize("key", ["channels", "grid", "codec", "cameras", "scenes", "teacher"])
def test_a_declaration_that_lacks_something_is_told(tmp_path: Path, key: str) -> None:
    write_store(tmp_path, FACTS)
    group = tmp_path / "features.zarr/zarr.json"
    told = json.loads(group.read_text())
    del told["attributes"][key]
    group.write_text(json.dumps(told))
    with pytest.raises(StoreError, match=r"features\.zarr.*: unreadable metadata \([^\n]+\); run lima verify"):
        FeatureStore.open(tmp_path)


@pytest.mark.parametrize("key", ["num_frames", "fidelity"])
def test_a_scene_that_lacks_its_counts_is_told(tmp_path: Path, key: str) -> None:
    store = write_store(tmp_path, FACTS)
    group = tmp_path / "features.zarr/s0/zarr.json"
    told = json.loads(group.read_text())
    del told["attributes"][key]
    group.write_text(json.dumps(told))
    with pytest.raises(StoreError, match=rf"features\.zarr: unreadable metadata \(no '{key}'\); run lima verify"):
        store.fidelity()


def test_arrays_that_do_not_fit_each_other_are_told(tmp_path: Path) -> None:
    write_store(tmp_path, FACTS)
    part = tmp_path / "features.zarr/s0"
    shutil.rmtree(part / "has_image")
    write_array(part / "has_image", np.ones((NUM_FRAMES, 3), bool))
    seal(part, {})
    with pytest.raises(StoreError, match=r"has_image: bool of shape \(5, 3\) instead of bool of shape \(5, 2\)"):
        FeatureStore.open(tmp_path).read("s0", 0, 1)


def test_other_schema_version(tmp_path: Path) -> None:
    write_store(tmp_path, FACTS)
    root = tmp_path / "features.zarr/zarr.json"
    root.write_text(root.read_text().replace("lima-features/2", "lima-features/1"))
    with pytest.raises(StoreError, match="schema 'lima-features/1', this version reads 'lima-features/2'"):
        FeatureStore.open(tmp_path)


def test_unknown_scene_frames_outside_and_truncated_file(tmp_path: Path) -> None:
    store = write_store(tmp_path, FACTS)
    with pytest.raises(StoreError, match="no scene 's9'"):
        store.read("s9", 0, 1)
    with pytest.raises(StoreError, match=r"rows 3\.\.9 of an array of 5"):
        store.read("s0", 3, 9)
    shard = tmp_path / "features.zarr/s1/codes/c/0/0/0/0/0"
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(StoreError, match="truncated"):
        store.read("s1", 0, 1)


@pytest.mark.parametrize(
    ("codec", "value"), [("int8", np.nan), ("int8", np.inf), ("float16", 1e5), ("pca4", np.nan), ("pca4", 1e38)]
)
def test_features_that_cannot_be_stored_are_refused(tmp_path: Path, codec: Codec, value: float) -> None:
    facts = replace(FACTS, codec=codec)
    declare(tmp_path, facts)
    bad = features_of("s0")[0]
    bad[1, 0, 2, 3] = value
    with (
        pytest.raises(DataError, match="frame t17: the teacher's features"),
        write_scene(tmp_path, facts, "s0") as writer,
    ):
        writer.append(bad, np.array([True, True]), "t17")
    assert "s0" in unwritten_scenes(tmp_path, facts)


@pytest.mark.gpu
@pytest.mark.parametrize("codec", ["int8", "pca4"])
def test_cuda_decodes_the_same_features(tmp_path: Path, codec: Codec) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    patches = write_store(tmp_path, replace(FACTS, codec=codec)).read("s0", 0, 5)
    torch.testing.assert_close(patches.table("cuda").cpu(), patches.table())
