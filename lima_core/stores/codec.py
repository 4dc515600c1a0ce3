"""How patch features become bytes: float16, or int8 with one scale per channel and one per token.

``feature = code * token_scale * channel_scale``. The channel scale evens out the channels (ViT tokens have a few very
large ones), the token scale uses the full range of int8 for every token, so nothing is ever clipped. A third member
would be ``pca<D>``: int8 of projected features with the basis stored beside ``channel_scale``; it belongs here.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

Codec = Literal["float16", "int8"]

CODE_DTYPES: dict[str, str] = {"float16": "<f2", "int8": "|i1"}


def fit_channel_scale(features: np.ndarray) -> np.ndarray:
    """Square root of every channel's root mean square, (C,) float32; 1 for a channel that is zero.

    Half way, in decibels, between no channel scale and the full one. With the full scale, a token whose large channels
    happen to be small pays for them with its small ones; on spectra with outlier channels the square root raised the
    lowest cosine from 0.9994 to 0.9999, and where the full scale is better it is by less than 0.00002.

    Args:
        features: (..., C) float32, the sample that decides (one frame is enough: the token scale does the rest).
    """
    rows = features.reshape(-1, features.shape[-1]).astype(np.float64)
    scale = np.mean(rows**2, axis=0) ** 0.25 if len(rows) else np.ones(features.shape[-1])
    return np.where(scale > 0, scale, 1.0).astype(np.float32)


def encode_int8(features: np.ndarray, channel_scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes (..., C) int8 in -127..127 and token scales (...) float32; a zero token has scale 0.

    Args:
        features: (..., C) float32, finite.
        channel_scale: (C,) float32, positive.
    """
    scaled = features / channel_scale
    token_scale = np.abs(scaled).max(axis=-1) / np.float32(127)
    divisor = np.where(token_scale > 0, token_scale, np.float32(1))
    scaled /= divisor[..., None]
    return np.rint(scaled, out=scaled).astype(np.int8), token_scale


def decode(codes: np.ndarray, token_scale: np.ndarray | None, channel_scale: np.ndarray | None) -> np.ndarray:
    """Features (..., C) float32 from codes of either codec; the scales are None for float16."""
    features = codes.astype(np.float32)
    if token_scale is not None and channel_scale is not None:
        features *= token_scale[..., None]
        features *= channel_scale
    return features


def decode_torch(codes: Tensor, token_scale: Tensor | None, channel_scale: Tensor | None) -> Tensor:
    """Features (..., C) float32 on the device of ``codes``; the scales are None for float16."""
    features = codes.to(torch.float32)
    if token_scale is not None and channel_scale is not None:
        features.mul_(token_scale.unsqueeze(-1)).mul_(channel_scale)
    return features


def token_cosines(decoded: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Cosine of every decoded token with the exact one, (tokens,) float64; tokens of length 0 are left out.

    Args:
        decoded: (..., C) float32.
        exact: (..., C) float32.
    """
    a = decoded.reshape(-1, decoded.shape[-1]).astype(np.float64)
    b = exact.reshape(-1, exact.shape[-1]).astype(np.float64)
    lengths = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    taken = lengths > 0
    return (a[taken] * b[taken]).sum(axis=1) / lengths[taken]


def bytes_per_frame(channels: int, grid: tuple[int, int], cameras: int, codec: Codec) -> int:
    """Bytes on disk of one frame's features: codes and token scales, without the per-scene kilobyte of metadata."""
    tokens = cameras * grid[0] * grid[1]
    return tokens * (2 * channels if codec == "float16" else channels + 4)
