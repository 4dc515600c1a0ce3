"""Materialised banks: what goes in comes out within its codec, any Zarr reader decodes it, half a scene is none."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from lima_core.errors import StoreError
from lima_core.stores import materialised_bank as store
from lima_core.stores.basis import fit_basis, write_basis
from lima_core.stores.materialised_bank import FOLDER, MaterialisedBank, MaterialisedFacts, create_materialised
from lima_core.stores.scene_store import write_declaration

CHANNELS, SCENES = 24, ("a", "b")
SIZES = {"a": (5, 0, 9), "b": (4, 7)}
"""Targets of each frame; one frame teaches nothing."""


def facts_of(codec: str) -> MaterialisedFacts:
    return MaterialisedFacts("a teacher", CHANNELS, 6, "mean", codec, SCENES)


def content(scene: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Target of each of 30 points, and unit targets, some channels ten times as large as others."""
    rng = np.random.default_rng([ord(scene), index])
    num_targets = SIZES[scene][index]
    point_target = rng.integers(-1, num_targets, 30).astype(np.int32)
    targets = rng.standard_normal((num_targets, CHANNELS)) * np.geomspace(0.1, 10, CHANNELS)
    return point_target, (targets / np.linalg.norm(targets, axis=1, keepdims=True)).astype(np.float32)


def written(artifact: Path, codec: str, scenes: tuple[str, ...] = SCENES) -> MaterialisedFacts:
    facts = facts_of(codec)
    create_materialised(artifact, facts)
    if codec.startswith("pca"):
        write_basis(artifact, fit_basis([content("a", 0)[1], content("a", 2)[1]], CHANNELS, int(codec[3:])))
    for scene in scenes:
        with store.write_scene(artifact, facts, scene) as writer:
            for index in range(len(SIZES[scene])):
                writer.append(*content(scene, index))
    return facts


@pytest.mark.parametrize(("codec", "least"), [("float16", 1 - 1e-6), ("int8", 0.9995), ("pca24", 0.9995)])
def test_targets_come_back_within_their_codec(tmp_path: Path, codec: str, least: float) -> None:
    facts = written(tmp_path, codec)
    bank = MaterialisedBank.open(tmp_path)
    assert bank.facts == facts and bank.scenes() == SCENES
    cosines = []
    for scene in SCENES:
        for index in range(len(SIZES[scene])):
            point_target, targets = content(scene, index)
            found = bank.frame(scene, index)
            np.testing.assert_array_equal(found.point_target, point_target)
            decoded = store.decoded(found.codes, found.channel_scale, bank.basis)
            np.testing.assert_allclose(np.linalg.norm(decoded, axis=1), 1, atol=1e-6)
            cosines += (decoded * targets).sum(axis=1).tolist()
    assert min(cosines) > least and len(cosines) == sum(map(sum, SIZES.values()))
    assert bank.fidelity().mean_cosine == pytest.approx(np.mean(cosines), abs=1e-6)
    assert bank.fidelity().num_tokens == len(cosines)


def test_another_zarr_reader_decodes_it_by_the_formula(tmp_path: Path) -> None:
    written(tmp_path, "int8")
    part = zarr.open_group(tmp_path / FOLDER, mode="r")["a"]
    start, stop = part["frame_start"][2:4, 1]
    features = part["codes"][start:stop] * part["channel_scale"][:]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    assert (features * content("a", 2)[1]).sum(axis=1).min() > 0.9995


def test_scenes_that_are_missing_are_told_and_others_are_kept(tmp_path: Path) -> None:
    facts = written(tmp_path, "int8", ("a",))
    assert store.unwritten_scenes(tmp_path, facts) == ["b"]
    with pytest.raises(StoreError, match=r"1 of 2 scenes, the first missing is b; build it with: lima stage material"):
        MaterialisedBank.open(tmp_path)
    with pytest.raises(KeyboardInterrupt), store.write_scene(tmp_path, facts, "b") as writer:
        writer.append(*content("b", 0))
        raise KeyboardInterrupt
    assert store.unwritten_scenes(tmp_path, facts) == ["b"]


def test_what_is_not_there_or_of_another_version_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no materialised bank; build it with: lima stage materialize"):
        MaterialisedBank.open(tmp_path)
    written(tmp_path, "float16")
    with pytest.raises(StoreError, match="holds no scene 'c'"):
        MaterialisedBank.open(tmp_path).frame("c", 0)
    with pytest.raises(StoreError, match="frame 3 of a scene of 3 frames"):
        MaterialisedBank.open(tmp_path).frame("a", 3)
    with pytest.raises(StoreError, match="an unfinished run wrote codec = 'float16', now it is 'int8'"):
        create_materialised(tmp_path, facts_of("int8"))
    write_declaration(tmp_path / FOLDER, {"schema": "lima-materialised/0", "scenes": []})
    with pytest.raises(StoreError, match="of schema 'lima-materialised/0', this version reads 'lima-materialised/1'"):
        MaterialisedBank.open(tmp_path)
