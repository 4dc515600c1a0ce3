"""Sparse convolution: MinkUNet-34 and a small net, forward and backward; two ways to sum products.

``python -m benchmarks.bench_sparse [--threads 2]`` prints medians; ``pytest benchmarks/bench_sparse.py`` runs the same
functions once each, as a test that they still run.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lima_core.geometry.voxels import CartesianGrid, unique_voxels, voxel_coords
from lima_core.models import build_backbone
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.seeds import torch_rng
from lima_core.sparse.blocks import schedule
from lima_core.sparse.engine_native import convolve
from lima_core.sparse.kernel_map import KernelMap, sort_keys, strided_map, submanifold_map
from lima_core.sparse.layers import HALVING
from lima_core.sparse.tensor import SparseTensor

SMALL = MinkUNetConfig(
    stem=16,
    encoder_widths=(16, 32, 64, 128),
    encoder_blocks=(1, 1, 1, 1),
    decoder_widths=(128, 64, 32, 32),
    decoder_blocks=(1, 1, 1, 1),
)


def street_voxels(size_m: float, num_columns: int = 1086) -> Tensor:
    """(V, 4) int32 voxels that a 32-beam scan of a street with house fronts and 60 posts occupies."""
    azimuth = torch.arange(num_columns) * (2 * math.pi / num_columns)
    elevation = torch.deg2rad(torch.linspace(-30.7, 10.7, 32))[:, None]
    direction = torch.stack(torch.broadcast_tensors(azimuth.cos(), azimuth.sin(), elevation.tan()), dim=-1)
    rng = torch_rng(0, "street")
    ground = -1.8 / direction[..., 2].clamp(max=-1e-3)
    fronts = 11.0 / direction[..., 1].abs().clamp(min=0.15)
    posts = (torch.rand(60, 2, generator=rng) - 0.5) * torch.tensor([60.0, 20.0])
    along = posts @ direction[0, :, :2].T  # (60, columns), distance to a post along the beam
    beside = (posts.pow(2).sum(1, keepdim=True) - along.pow(2)).clamp(min=0).sqrt()
    hit = torch.where((along > 1.5) & (beside < 0.6), along, torch.inf).amin(0)
    reach = torch.minimum(torch.minimum(ground, fronts), hit)
    noise = 0.02 * torch.randn(reach.shape, generator=rng)
    points = (direction * (reach + noise)[..., None])[reach < 70.0]
    cells = voxel_coords(points, CartesianGrid(size_m=(size_m,) * 3))
    return unique_voxels(torch.nn.functional.pad(cells, (1, 0)))[0]


def median_ms(work: Callable[[], object], passes: int) -> float:
    """Median time of ``work`` in milliseconds, after one pass that does not count."""
    times = []
    for _ in range(passes + 1):
        started = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times[1:])


def step(network: nn.Module, coords: Tensor, *, bf16: bool = False) -> None:
    """One forward and backward pass, kernel maps included."""
    features = torch.randn(len(coords), 4, generator=torch_rng(0, "features"))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        out = network(SparseTensor(features, coords))
    out.features.float().square().mean().backward()
    network.zero_grad(set_to_none=True)


def build_maps(coords: Tensor, num_levels: int = 5) -> None:
    """All kernel maps of a U-Net, with the orders in which their rows are summed."""
    for _ in range(num_levels):
        submanifold = submanifold_map(sort_keys(coords), (3, 3, 3))
        coords, _, down = strided_map(coords, HALVING)
        for pairs in (submanifold, down):
            plan = schedule(pairs, torch.empty(0))
            _ = plan.by_target, plan.by_source


def convolve_index_add(features: Tensor, weight: Tensor, pairs: KernelMap) -> Tensor:
    """What the engine does not do: one ``index_add_`` per offset instead of one ``embedding_bag``. Forward only."""
    out = features @ weight[pairs.centre]
    parts = zip(pairs.source.split(pairs.counts), pairs.target.split(pairs.counts), weight.unbind(), strict=True)
    for source, target, matrix in parts:
        out.index_add_(0, target, features.index_select(0, source) @ matrix)
    return out


def compare_sums(coords: Tensor, channels: int, passes: int) -> tuple[float, float]:
    """Median forward ms of one 3^3 convolution: the engine's way, and with ``index_add_``."""
    features = torch.randn(len(coords), channels, generator=torch_rng(0, "features"))
    weight = torch.randn(27, channels, channels, generator=torch_rng(0, "weight"))
    pairs = submanifold_map(sort_keys(coords), (3, 3, 3))
    ways = [convolve, convolve_index_add]
    torch.testing.assert_close(*[way(features, weight, pairs) for way in ways], rtol=1e-4, atol=1e-2)
    bag, index_add = (median_ms(lambda w=way: w(features, weight, pairs), passes) for way in ways)
    return bag, index_add


def test_small_network_runs() -> None:
    """The network takes a step."""
    step(build_backbone(SMALL, in_channels=4), street_voxels(0.4))


def test_maps_and_layer_run() -> None:
    """The parts run alone."""
    build_maps(street_voxels(0.4))
    compare_sums(street_voxels(0.4), channels=8, passes=1)


def main() -> None:
    """Prints one line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--passes", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for title, config, size_m in (("MinkUNet-34", MinkUNetConfig(), 0.1), ("small net", SMALL, 0.2)):
        coords, network = street_voxels(size_m), build_backbone(config, in_channels=4)
        print(f"{title}, {len(coords)} voxels, {arguments.threads} threads")
        print(f"  maps          {median_ms(lambda c=coords: build_maps(c), arguments.passes):8.1f} ms")
        for bf16 in (False, True):
            spent = median_ms(lambda n=network, c=coords, b=bf16: step(n, c, bf16=b), arguments.passes)
            print(f"  step {'bf16' if bf16 else 'fp32'}     {spent:8.1f} ms")
    coords = street_voxels(0.1)
    for channels in (16, 32, 96):
        bag, index_add = compare_sums(coords, channels, arguments.passes)
        print(f"3^3 at {len(coords)} voxels, {channels} channels: bag {bag:.1f} ms, index_add_ {index_add:.1f} ms")


if __name__ == "__main__":
    main()
