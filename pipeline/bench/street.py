"""Voxels of a made-up street scan, for benchmarks: the sizes of a real one, from nothing but a seed."""

import math

import torch
from torch import Tensor

from lima_core.geometry.voxels import CartesianGrid, unique_voxels, voxel_coords
from lima_core.seeds import torch_rng


def street_voxels(size_m: float, num_columns: int = 1086, num_beams: int = 32, seed: int = 0) -> Tensor:
    """(V, 4) int32 voxels that one scan of a street with house fronts and 60 posts occupies.

    Args:
        size_m: edge of a voxel.
        num_columns: firings per turn.
        num_beams: 32 at 0.1 m occupy 19 448 voxels, 64 at 0.05 m 58 512.
        seed: of where the posts stand and of the noise.
    """
    azimuth = torch.arange(num_columns) * (2 * math.pi / num_columns)
    elevation = torch.deg2rad(torch.linspace(-30.7, 10.7, num_beams))[:, None]
    direction = torch.stack(torch.broadcast_tensors(azimuth.cos(), azimuth.sin(), elevation.tan()), dim=-1)
    rng = torch_rng(seed, "street")
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


def street_batch(size_m: float, num_beams: int, batch: int) -> tuple[Tensor, Tensor]:
    """Coords (V, 4) int32 and features (V, 4) float32 of ``batch`` different scans."""
    scans = [street_voxels(size_m, num_beams=num_beams, seed=seed) for seed in range(batch)]
    coords = torch.cat(scans)
    coords[:, 0] = torch.repeat_interleave(torch.arange(batch), torch.tensor([len(scan) for scan in scans]))
    return coords, torch.randn(len(coords), 4, generator=torch_rng(0, "features"))
