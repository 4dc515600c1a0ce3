"""Samples for pre-training: memories travel with their points, mixing joins two sequences, luck is seeded."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lima_core.errors import ConfigError, StoreError
from lima_core.loading.augment import AugmentConfig
from lima_core.loading.limits import LimitsConfig
from lima_core.loading.pretrain import PretrainSample, PretrainSource, num_targets
from lima_core.loading.voxelise import voxelise
from lima_core.memory.cross_sequence import CrossSequenceConfig
from lima_core.methods.lima import LimaConfig
from lima_core.stores.frame_index import FrameIndex
from lima_core.training.plan import plan_of
from lima_core.training.shuffle import ShuffleBlocks
from stages import distill
from tests.stages.small_run import BACKBONE, VOXELS, Artifacts, artifacts


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    return artifacts(tmp_path_factory.mktemp("drive"))


def source_of(built: Artifacts, probability: float, augment: AugmentConfig | None = None) -> PretrainSource:
    method = LimaConfig(cross_sequence=CrossSequenceConfig(probability=probability))
    config = distill.Config(method=method, backbone=BACKBONE, voxels=VOXELS, augment=augment)
    inputs = distill.Inputs(built.raw, built.index, built.features, built.memory)
    return distill.pretrain_source(config, inputs, FrameIndex.open(built.index), distill.target_source(config, inputs))


def taught(source: PretrainSource, sample: PretrainSample) -> dict[tuple[float, ...], tuple[float, ...]]:
    """What each point is taught, by where it is; () where nothing."""
    features = source.targets.join(sample.targets).features().tolist()
    targets = [tuple(features[target]) if target >= 0 else () for target in sample.point_target]
    return dict(zip(map(tuple, sample.scan.points), targets, strict=True))


def test_a_batch_teaches_the_voxels_of_the_taught_points(built: Artifacts) -> None:
    source = source_of(built, 0.0)
    batch = source.load(0, [3, 8])
    samples = [source.sample(0, index) for index in (3, 8)]
    taught = [sample.scan.points[sample.point_target >= 0] for sample in samples]
    voxels = voxelise(batch.scans)
    taught_voxel = voxels.inverse[batch.taught_point]
    assert len(batch.taught_point) == sum(map(len, taught)) > 20
    cells = np.concatenate([np.round(points[:, :3] / 2.0) for points in taught]).astype(int)
    np.testing.assert_array_equal(voxels.coords[taught_voxel, 1:].numpy(), cells)
    batch_column = np.repeat([0, 1], [len(points) for points in taught])
    np.testing.assert_array_equal(voxels.coords[taught_voxel, 0].numpy(), batch_column)
    first_targets = samples[0].targets[0].num_targets
    second = batch.taught_target[torch.from_numpy(batch_column) == 1]
    assert second.min() >= first_targets


def test_mixed_scans_keep_each_point_with_its_own_target(built: Artifacts) -> None:
    plain, mixed = source_of(built, 0.0), source_of(built, 1.0)
    by_token = {frame.token: plain.read(frame) for frame in plain.frames}
    scene_of = {frame.token: frame.scene for frame in plain.frames}
    for index in range(len(mixed)):
        sample = mixed.sample(0, index)
        first, second = (by_token[token] for token in sample.scan.name.split("+"))
        assert scene_of[first.scan.name] != scene_of[second.scan.name]
        known = taught(plain, first) | taught(plain, second)
        found = taught(mixed, sample)
        assert found == {point: known[point] for point in found} and len(found) == len(sample.scan.points)
        assert len(sample.targets) == 2
        assert num_targets(sample.targets) == len(set(sample.point_target) - {-1})  # no more than teaches


def test_samples_are_functions_of_epoch_and_index(built: Artifacts) -> None:
    source = source_of(built, 0.5, AugmentConfig())
    again, other = source.sample(4, 1).scan, source.sample(5, 1).scan
    np.testing.assert_array_equal(source.sample(4, 1).scan.points, again.points)
    np.testing.assert_array_equal(source.sample(4, 1).scan.matrix, again.matrix)
    assert not np.array_equal(other.matrix, again.matrix)


def test_in_blocks_scans_are_mixed_with_what_is_near(built: Artifacts) -> None:
    source = replace(source_of(built, 1.0), blocks=ShuffleBlocks(frames=2, mixed=2))
    plan = plan_of(len(source), 1, 1, None, source.seed, source.blocks, source.runs())
    token = {frame.token: number for number, frame in enumerate(source.frames)}
    near = []
    for epoch in range(3):
        order = plan.order(epoch).tolist()
        for index in range(len(source)):
            first, second = (token[name] for name in source.sample(epoch, index).scan.name.split("+"))
            assert first == index and source.frames[first].scene != source.frames[second].scene
            mixture = plan.mixture(epoch, first).tolist()
            places = sorted(order.index(sample) for sample in mixture)
            assert first in mixture and len(mixture) <= 4
            assert places == list(range(places[0], places[0] + len(places)))  # one after the other in the epoch
            near.append(second in mixture)
    assert 0.3 < np.mean(near) < 1  # some mixtures are of one scene


@pytest.mark.parametrize("blocks", [None, ShuffleBlocks(frames=2, mixed=2), ShuffleBlocks(frames=9, mixed=1)])
def test_partners_are_drawn_as_from_a_list_of_all_others(built: Artifacts, blocks: ShuffleBlocks | None) -> None:
    plain = source_of(built, 1.0)
    frames = tuple(
        replace(plain.frames[0], scene=scene, token=f"{scene}{i}")
        for scene, length in (("b", 5), ("a", 1), ("d", 8), ("c", 3))
        for i in range(length)
    )
    source = replace(plain, frames=frames, blocks=blocks)
    plan = plan_of(len(source), 1, 1, None, source.seed, blocks, source.runs())
    scene = np.array([frame.scene for frame in frames])
    for epoch in range(3):
        for index in range(len(frames)):
            among = np.arange(len(frames)) if blocks is None else plan.mixture(epoch, index)
            others = among[scene[among] != scene[index]]
            if not len(others):
                others = np.nonzero(scene != scene[index])[0]
            draws, reference = np.random.default_rng([epoch, index]), np.random.default_rng([epoch, index])
            expected = frames[others[reference.integers(len(others))]]
            assert source._partner(epoch, index, draws) is expected
            assert draws.random() == reference.random()


def test_bounds_hold_after_mixing_and_targets_stay_with_their_points(built: Artifacts) -> None:
    mixed = source_of(built, 1.0)
    bounded = replace(mixed, limits=LimitsConfig(max_points=50))
    for index in range(3):
        whole, part = mixed.sample(0, index), bounded.sample(0, index)
        known, found = taught(mixed, whole), taught(bounded, part)
        assert found == {point: known[point] for point in found} and any(found.values())
        assert len(part.scan.points) == 50 and part.scan.dropped == len(whole.scan.points) - 50
    batch = bounded.load(0, [0, 1])
    assert batch.scans.dropped == sum(bounded.sample(0, index).scan.dropped for index in (0, 1))


def test_mixing_needs_two_scenes(built: Artifacts) -> None:
    source = source_of(built, 0.5)
    one_scene = tuple(frame for frame in source.frames if frame.scene == "a")
    with pytest.raises(ConfigError, match="needs frames of at least two scenes, there is one; set regions: none"):
        replace(source, frames=one_scene)


def test_a_scan_that_changed_under_the_bank_is_refused(built: Artifacts) -> None:
    source = source_of(built, 0.0)
    path = built.raw / source.frames[0].points
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[: 20 * 20])
        with pytest.raises(StoreError, match="the scan has 20 points, the bank 200"):
            source.read(source.frames[0])
    finally:
        path.write_bytes(whole)
