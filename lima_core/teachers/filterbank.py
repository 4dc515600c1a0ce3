"""A teacher without weights: fixed oriented, colour and scale filters, energy-pooled per patch, PCA-whitened.

It needs no download and no training, so the whole pipeline runs anywhere; it is not a learned network and says so.
Three kinds of measurements are taken per patch and averaged over three neighbourhoods (the patch, 3 x 3 and 7 x 7):

- colour: luminance and two opponent channels relative to luminance, mean and log standard deviation;
- oriented energy: quadrature pairs of Gabor filters (Daugman 1985), every orientation at three octaves, log energy;
- spots: difference of Gaussians at three octaves, log energy.

Nothing depends on where in the image a patch lies. Whitening is fitted on a streamed sample of images: mean removed,
every measurement to unit variance, PCA, a softened inverse standard deviation, so that weak directions stay weak.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from lima_core.types import Config

NUM_OCTAVES = 3
CONTEXTS = (1, 3, 7)
"""Widths of the neighbourhoods in patches; odd."""
NOISE_ENERGY = 1e-4
"""Energy of the noise of an 8-bit JPEG image (standard deviation 0.01): below it, log energy says nothing."""


class FilterbankConfig(Config):
    """Fixed filters, no weights."""

    name: Literal["filterbank"] = "filterbank"
    patch_px: Literal[4, 8, 16] = 8
    channels: int = Field(default=32, ge=2, le=64)
    orientations: int = Field(default=6, ge=2, le=12)
    softening: float = Field(default=1.0, ge=0)
    """Added to every variance before whitening, as a share of the mean variance; 0 whitens fully."""


class Filterbank:
    """The teacher; see the module's docstring. ``fit`` or ``load_state`` comes before ``encode``."""

    def __init__(self, config: FilterbankConfig, device: str = "cpu") -> None:
        self.config, self.device = config, torch.device(device)
        self.channels, self.patch_px = config.channels, config.patch_px
        self.identity = f"filterbank (fixed filters, not a learned network; {self.channels} channels)"
        self.filters = _filters(config.orientations).to(self.device)
        self.mean: Tensor | None = None
        self.basis: Tensor | None = None

    @torch.inference_mode()
    def fit(self, images: Sequence[Tensor]) -> None:
        """Mean and whitening basis from every patch of ``images``, each (3, H, W) float32 in [0, 1]."""
        assert len(images) > 0, "the filterbank is fitted on at least one image"
        count, total, outer = 0, torch.zeros(()), torch.zeros(())
        for image in images:
            rows = self.measure(image[None].to(self.device)).flatten(0, 2).cpu().double()
            count, total, outer = count + len(rows), total + rows.sum(0), outer + rows.T @ rows
        mean = total / count
        basis = _whitening(outer / count - mean[:, None] * mean, self.channels, self.config.softening)
        self.load_state({"mean": mean.float(), "basis": basis.float()})

    def state(self) -> dict[str, Tensor]:
        """``mean`` (measurements,) and ``basis`` (measurements, channels), float32 on the CPU."""
        assert self.mean is not None and self.basis is not None, "fit comes first"
        return {"mean": self.mean.cpu(), "basis": self.basis.cpu()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes what ``state`` gave."""
        assert state["basis"].shape[1] == self.channels, tuple(state["basis"].shape)
        # One memory layout whether fitted or read from a file: with another, products differ in the last bit.
        mean, basis = (state[name].clone(memory_format=torch.contiguous_format) for name in ("mean", "basis"))
        self.mean, self.basis = mean.to(self.device), basis.to(self.device)

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Features (B, H / patch_px, W / patch_px, channels) float32 of images (B, 3, H, W) float32 in [0, 1]."""
        assert self.mean is not None and self.basis is not None, "fit or load_state comes before encode"
        return (self.measure(images.to(self.device)) - self.mean) @ self.basis

    def measure(self, images: Tensor) -> Tensor:
        """Raw measurements (B, h, w, M) float32 of images (B, 3, H, W): of the patch, then of each wider context."""
        height, width = images.shape[-2:]
        assert height % self.patch_px == 0 and width % self.patch_px == 0, (height, width)
        opponent = _opponent(images)
        patch = torch.cat([self._colour(opponent), self._energies(opponent[:, :1])], dim=1)
        contexts = [
            functional.avg_pool2d(patch, k, stride=1, padding=k // 2, count_include_pad=False) for k in CONTEXTS
        ]
        return torch.cat(contexts, dim=1).permute(0, 2, 3, 1)

    def _colour(self, opponent: Tensor) -> Tensor:
        """Mean and log standard deviation of the opponent channels per patch, (B, 6, h, w)."""
        mean = functional.avg_pool2d(opponent, self.patch_px)
        variance = functional.avg_pool2d(opponent.square(), self.patch_px) - mean.square()
        return torch.cat([mean, 0.5 * torch.log(variance.clamp_min(0) + NOISE_ENERGY)], dim=1)

    def _energies(self, luminance: Tensor) -> Tensor:
        """Log energy of every filter at every octave per patch, (B, octaves * (orientations + 1), h, w)."""
        energies = []
        for octave in range(NUM_OCTAVES):
            level = functional.avg_pool2d(luminance, 2**octave) if octave else luminance
            # The energy of a quadrature pair is smooth, so the finest octave is sampled at every second pixel.
            stride = 2 if octave == 0 else 1
            pad = self.filters.shape[-1] // 2
            responses = functional.conv2d(
                functional.pad(level, (pad,) * 4, mode="replicate"), self.filters, stride=stride
            ).square()
            pooled = functional.avg_pool2d(responses, self.patch_px // (stride * 2**octave))
            even, odd, spot = pooled.split([self.config.orientations, self.config.orientations, 1], dim=1)
            energies.append(torch.cat([even + odd, spot], dim=1))
        return torch.log(torch.cat(energies, dim=1) + NOISE_ENERGY)


def _opponent(images: Tensor) -> Tensor:
    """Luminance, red against green and blue against yellow relative to luminance: (B, 3, H, W), about -1..1."""
    red, green, blue = images.unbind(1)
    luminance = (red + green + blue) / 3
    light = luminance + 0.1
    return torch.stack([luminance, (red - green) / light, (blue - (red + green) / 2) / light], dim=1)


def _filters(orientations: int, radius: int = 3, wavelength_px: float = 4.0, sigma_px: float = 1.6) -> Tensor:
    """Even and odd Gabor filters of every orientation, then one spot filter: (2 * orientations + 1, 1, 7, 7) float32.

    Each has zero mean and unit length, so a constant image has no energy and all filters weigh noise alike.
    """
    axis = torch.arange(-radius, radius + 1, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    angle = torch.arange(orientations, dtype=torch.float64)[:, None, None] * (math.pi / orientations)
    phase = (x * torch.cos(angle) + y * torch.sin(angle)) * (2 * math.pi / wavelength_px)
    envelope = torch.exp(-(x**2 + y**2) / (2 * sigma_px**2))
    wide = torch.exp(-(x**2 + y**2) / (8 * sigma_px**2))
    spot = envelope / envelope.sum() - wide / wide.sum()
    even, odd = torch.cos(phase) * envelope, torch.sin(phase) * envelope
    even = even - envelope * (even.sum((1, 2), keepdim=True) / envelope.sum())
    filters = torch.cat([even, odd, spot[None]])
    return (filters / filters.flatten(1).norm(dim=1)[:, None, None]).float()[:, None]


def _whitening(covariance: Tensor, channels: int, softening: float) -> Tensor:
    """Basis (M, channels) float64 that turns centred measurements into decorrelated channels, strongest first."""
    deviation = covariance.diagonal().clamp_min(1e-12).sqrt()
    values, vectors = torch.linalg.eigh(covariance / (deviation[:, None] * deviation))
    values, vectors = values.flip(0)[:channels].clamp_min(0), vectors.flip(1)[:, :channels]
    # An eigenvector's sign is arbitrary; its largest entry is made positive so that every machine agrees.
    largest = vectors.abs().argmax(dim=0)
    vectors = vectors * vectors.gather(0, largest[None]).sign()
    # Correlation matrix: the mean variance is 1, so ``softening`` is already a share of it.
    return vectors / deviation[:, None] / (values + softening + 1e-9).sqrt()
