"""Counts of operations against a walk over all pairs of voxels in plain Python."""

from collections import Counter
from itertools import product

import torch

from lima_core.models import build_backbone
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.sparse.tensor import SparseTensor
from pipeline.bench.work import LayerWork, network_work, total_flops, voxels_by_stride

SMALL = MinkUNetConfig(stem=3, encoder_widths=(5,), encoder_blocks=(1,), decoder_widths=(7,), decoder_blocks=(1,))


def cloud() -> SparseTensor:
    cells = torch.randint(-4, 4, (60, 3), generator=torch.Generator().manual_seed(0))
    coords = torch.nn.functional.pad(cells.unique(dim=0), (1, 0)).int()
    return SparseTensor(torch.ones(len(coords), 4), coords)


def num_neighbours(voxels: set[tuple[int, ...]]) -> int:
    """Pairs of voxels that touch, each with itself among them."""
    shifts = list(product((-1, 0, 1), repeat=3))
    return sum(
        tuple(a + b for a, b in zip(voxel, shift, strict=True)) in voxels for voxel in voxels for shift in shifts
    )


def test_operations_are_those_of_a_walk_over_all_pairs() -> None:
    x = cloud()
    fine = {tuple(row) for row in x.coords[:, 1:].tolist()}
    coarse = {tuple(value // 2 for value in voxel) for voxel in fine}
    at_fine, at_coarse, children, shortcut = (num_neighbours(fine), num_neighbours(coarse), len(fine), len(fine))
    forward = 2 * (
        at_fine * (4 * 3 + 3 * 3)  # stem
        + children * 3 * 3  # down
        + at_coarse * (3 * 5 + 5 * 5) + len(coarse) * 3 * 5  # encoder, with its shortcut
        + children * 5 * 7  # up
        + at_fine * (10 * 7 + 7 * 7) + shortcut * 10 * 7  # decoder: 7 channels from below, 3 from the stem
    )  # fmt: skip
    work = network_work(build_backbone(SMALL, 4), x)
    assert total_flops(work) == 3 * forward
    assert voxels_by_stride(work) == {1: len(fine), 2: len(coarse)}
    kinds = Counter()
    for layer, times in work.items():
        kinds[layer.kind] += times
    assert kinds == {"submanifold": 6, "1x1x1": 2, "strided": 1, "transposed": 1, "norm": 10, "relu": 6}


def test_counting_leaves_the_network_as_it_was() -> None:
    network = build_backbone(SMALL, 4).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network_work(network, cloud())
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(layer._forward_hooks for layer in network.modules())


def test_bytes_are_those_of_every_operand_once() -> None:
    layer = LayerWork("submanifold", 1, 3, 5, 27, 100, 80, 20, 20)
    forward = 20 * 3 + 20 * 5 + 27 * 3 * 5
    backward = 20 * 5 + (20 * 3 + 27 * 3 * 5) + (20 * 3 + 27 * 3 * 5)  # read the gradient; read and write the rest
    assert layer.training_bytes(4) == 4 * (forward + backward) + 2 * 80 * 16
    assert LayerWork("norm", 1, 3, 3, 0, 0, 0, 20, 20).training_bytes(2) == 5 * 20 * 3 * 2
    assert LayerWork("norm", 1, 3, 3, 0, 0, 0, 20, 20).training_flops == 0
