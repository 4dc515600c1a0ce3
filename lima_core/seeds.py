"""Randomness as a function of (seed, purpose, indices), so that order and augmentation survive a restart exactly."""

import hashlib

import numpy as np
import torch


def derive(seed: int, *purpose: str | int) -> int:
    """63-bit seed for one purpose: the same arguments give the same number on every machine."""
    text = "/".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_rng(seed: int, *purpose: str | int) -> np.random.Generator:
    """A fresh NumPy generator for one purpose."""
    return np.random.default_rng(derive(seed, *purpose))


def torch_rng(seed: int, *purpose: str | int) -> torch.Generator:
    """A fresh CPU torch generator for one purpose."""
    return torch.Generator().manual_seed(derive(seed, *purpose))
