"""Two sources of targets: pooled from either, they agree within the codec; what is left out changes nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lima_core.errors import ConfigError
from lima_core.memory.pooling import pool, to_references
from lima_core.memory.targets import BankTargets, MaterialisedTargets, materialised_targets
from lima_core.stores.feature_store import FeatureStore
from lima_core.stores.materialised_bank import MaterialisedBank
from lima_core.stores.memory_bank import MemoryBank
from lima_core.training.tensors import tensors_of
from lima_core.types import Resources
from stages import extract_features, materialize
from tests.stages.small_run import Artifacts, artifacts

FRAMES = [("a", 0), ("a", 5), ("b", 3)]
LEAST = {"float16": 1 - 1e-6, "int8": 0.999, "pca16": 0.7}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    return artifacts(tmp_path_factory.mktemp("drive"))


def bank_targets(built: Artifacts, features: Path | None = None, window: int = 3) -> BankTargets:
    return BankTargets(MemoryBank.open(built.memory), FeatureStore.open(features or built.features), window)


def pooled_at_once(source: BankTargets, scene: str, index: int) -> torch.Tensor:
    """Every patch decoded with both of its scales, then pooled: what a target is."""
    oldest = max(0, index - source.window + 1)
    references = to_references([source.bank.frame(scene, index, source.window)], [index + 1 - oldest], 2)
    facts = source.store.facts
    return pool(source.store.read(scene, oldest, index + 1).table(), references, facts.grid, facts.patch_px)


@pytest.fixture(scope="module")
def projected(built: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pca")
    config = extract_features.Config(image_size_px=(24, 40), codec="pca8")
    extract_features.run(config, extract_features.Inputs(built.raw, built.index), out, Resources())
    return out


@pytest.mark.parametrize("codec", ["int8", "pca8"])
def test_neither_token_scales_nor_a_late_basis_change_a_target(built: Artifacts, projected: Path, codec: str) -> None:
    source = bank_targets(built, projected if codec == "pca8" else None)
    assert source.store.facts.codec == codec
    memories = [source.read(*frame)[1] for frame in FRAMES]
    expected = torch.cat([pooled_at_once(source, *frame) for frame in FRAMES])
    torch.testing.assert_close(source.join(memories).features(), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("codec", list(LEAST))
def test_materialised_targets_agree_within_their_codec(built: Artifacts, tmp_path: Path, codec: str) -> None:
    config = materialize.Config(codec=codec)
    materialize.run(config, materialize.Inputs(built.features, built.memory), tmp_path, Resources())
    exact, stored = bank_targets(built), MaterialisedTargets(MaterialisedBank.open(tmp_path))
    facts = [(source.teacher, source.channels, source.window, source.scenes) for source in (exact, stored)]
    assert facts[0] == facts[1]
    parts = [[source.read(*frame) for frame in FRAMES] for source in (exact, stored)]
    for (of_points, targets), (stored_of_points, stored_targets) in zip(*parts, strict=True):
        np.testing.assert_array_equal(of_points, stored_of_points)
        assert targets.num_targets == stored_targets.num_targets
    a, b = (source.join([p[1] for p in found]).features() for source, found in zip((exact, stored), parts, strict=True))
    torch.testing.assert_close(torch.linalg.vector_norm(b, dim=1), torch.ones(len(b)))
    assert (a * b).sum(dim=1).min() > LEAST[codec] and len(a) > 40
    told = stored.bank.fidelity()
    assert told.mean_cosine > LEAST[codec] and told.num_tokens > len(a)


def test_only_what_is_wanted_is_pooled(built: Artifacts, tmp_path: Path) -> None:
    materialize.run(materialize.Config(), materialize.Inputs(built.features, built.memory), tmp_path, Resources())
    for source in (bank_targets(built), MaterialisedTargets(MaterialisedBank.open(tmp_path))):
        memories = [source.read(*frame)[1] for frame in FRAMES]
        masks = [np.arange(memory.num_targets) % 3 == 1 for memory in memories]
        parts = [memory.only(mask) for memory, mask in zip(memories, masks, strict=True)]
        assert [part.num_targets for part in parts] == [mask.sum() for mask in masks]
        whole = source.join(memories).features()
        assert torch.equal(source.join(parts).features(), whole[torch.from_numpy(np.concatenate(masks))])
        assert source.join([part.only(np.zeros(part.num_targets, bool)) for part in parts]).features().shape[0] == 0


def test_references_travel_as_small_as_they_come(built: Artifacts) -> None:
    source = bank_targets(built)
    batch = source.join([source.read("a", 5)[1]])
    sizes = {tensor.element_size() for tensor in tensors_of(batch.references)}
    per_reference = sum(t.element_size() for t in tensors_of(replace(batch.references, num_references=torch.empty(0))))
    assert sizes == {1, 2, 4} and per_reference <= 10 + 4
    assert batch.patches[0].codes.dtype == torch.int8


def test_targets_of_another_window_or_rule_are_refused_in_one_line(built: Artifacts, tmp_path: Path) -> None:
    config = materialize.Config(frames=2, codec="float16")
    materialize.run(config, materialize.Inputs(built.features, built.memory), tmp_path, Resources())
    bank = MaterialisedBank.open(tmp_path)
    assert materialised_targets(bank, None, "mean").window == materialised_targets(bank, 2, "mean").window == 2
    with pytest.raises(ConfigError, match="targets were pooled over 2 frames, the method wants 3; set distill"):
        materialised_targets(bank, 3, "mean")
    with pytest.raises(ConfigError, match="pooled with cross_view mean, the method wants first; set materialize"):
        materialised_targets(bank, None, "first")
