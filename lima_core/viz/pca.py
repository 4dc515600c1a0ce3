"""Features as colours: their three main directions become red, green and blue."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PcaColours:
    """A map from features to colours, fitted once and used for all pictures that are to be compared."""

    mean: np.ndarray
    """(C,) float64."""
    basis: np.ndarray
    """(C, 3) float64, orthonormal columns."""
    low: np.ndarray
    """(3,) the 2nd percentile along each direction becomes 0 ..."""
    high: np.ndarray
    """... and the 98th 255."""

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(..., 3) uint8 of (..., C) features; their length does not matter."""
        position = (unit(features) - self.mean) @ self.basis
        share = (position - self.low) / np.maximum(self.high - self.low, 1e-9)
        return (np.clip(share, 0, 1) * 255).round().astype(np.uint8)


def fit_pca(features: np.ndarray) -> PcaColours:
    """Fits the map to (N, C) features; the sign of each direction is fixed, so equal features give equal colours.

    Fewer than three directions leave the others at zero.
    """
    rows = unit(features.reshape(-1, features.shape[-1]))
    mean = rows.mean(axis=0)
    _, vectors = np.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
    basis = np.zeros((rows.shape[1], 3))
    main = vectors[:, ::-1][:, :3]
    signs = np.sign(main[np.abs(main).argmax(axis=0), np.arange(main.shape[1])])
    basis[:, : main.shape[1]] = main * signs
    low, high = np.quantile((rows - mean) @ basis, [0.02, 0.98], axis=0)
    return PcaColours(mean, basis, low, high)


def unit(features: np.ndarray) -> np.ndarray:
    """(..., C) float64 of unit length; zero stays zero."""
    exact = features.astype(np.float64)
    length = np.linalg.norm(exact, axis=-1, keepdims=True)
    return exact / np.where(length > 0, length, 1)
