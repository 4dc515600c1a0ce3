"""How patch features become bytes: float16; int8 with one scale per channel and one per token; or ``pca<D>``.

``feature = code * token_scale * channel_scale`` for int8. The channel scale evens out the channels (ViT tokens have a
few very large ones), the token scale uses the full range of int8 for every token, so nothing is ever clipped.
``pca<D>`` does the same to the D coefficients of the feature along the store's basis (``basis.py``): a projected
spectrum is steep, and the channel scale's square root is what keeps its small directions.
"""

import re
from typing import Annotated

import numpy as np
import torch
from pydantic import AfterValidator
from torch import Tensor

from lima_core.errors import ConfigError, did_you_mean

EXAMPLES = ("float16", "int8", "pca32", "pca64", "pca128")


def num_directions(codec: str) -> int | None:
    """D of ``pca<D>``; None for a codec that does not project."""
    found = re.fullmatch(r"pca([1-9]\d*)", codec)
    return int(found[1]) if found else None


def known_codec(codec: str) -> str:
    """``codec`` itself.

    Raises:
        ConfigError: it is neither float16 nor int8 nor ``pca<D>`` with a D of at least 1.
    """
    if codec not in ("float16", "int8") and num_directions(codec) is None:
        remedy = did_you_mean(codec, EXAMPLES) + "; any pca<D> with D from 1 to the teacher's channels"
        raise ConfigError(f"{codec!r} is not known", remedy=remedy)
    return codec


Codec = Annotated[str, AfterValidator(known_codec)]
"""``float16``, ``int8`` or ``pca<D>``."""


def check_directions(codec: Codec, channels: int, where: object = "") -> None:
    """Raises ConfigError where ``pca<D>`` asks for more directions than the teacher has channels."""
    if (num_directions(codec) or 0) > channels:
        remedy = f"choose pca<D> with D from 1 to {channels}, or int8"
        raise ConfigError(f"codec {codec} of a teacher with {channels} channels", where=where, remedy=remedy)


def code_dtype(codec: Codec) -> str:
    """NumPy type of the codes."""
    return "float16" if codec == "float16" else "int8"


def code_width(codec: Codec, channels: int) -> int:
    """Codes per token: the directions of ``pca<D>``, else the channels."""
    return num_directions(codec) or channels


def fit_channel_scale(features: np.ndarray) -> np.ndarray:
    """Square root of every channel's root mean square, (C,) float32; 1 for a channel that is zero.

    Half way, in decibels, between no channel scale and the full one. With the full scale, a token whose large channels
    happen to be small pays for them with its small ones; on spectra with outlier channels the square root raised the
    lowest cosine from 0.9994 to 0.9999, and where the full scale is better it is by less than 0.00002. On 64
    coefficients of ``pca64`` the 1st percentile loses 0.00003 to int8 with the square root, 0.00017 with the full
    scale, 0.00019 with none.

    Args:
        features: (..., C) float32, the sample that decides (one frame is enough: the token scale does the rest).
    """
    rows = features.reshape(-1, features.shape[-1]).astype(np.float64)
    scale = np.mean(rows**2, axis=0) ** 0.25 if len(rows) else np.ones(features.shape[-1])
    return np.where(scale > 0, scale, 1.0).astype(np.float32)


def project(features: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Coefficients (..., D) float32 of features (..., C) float32 along the rows of ``basis`` (D, C), orthonormal."""
    return _product(features, basis.T)


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


def decode(
    codes: np.ndarray,
    token_scale: np.ndarray | None,
    channel_scale: np.ndarray | None,
    basis: np.ndarray | None = None,
) -> np.ndarray:
    """Features (..., C) float32 from codes of any codec; the scales are None for float16, the basis but for PCA."""
    features = codes.astype(np.float32)
    if token_scale is not None and channel_scale is not None:
        features *= token_scale[..., None]
        features *= channel_scale
    return features if basis is None else _product(features, basis)


def decode_torch(
    codes: Tensor, token_scale: Tensor | None, channel_scale: Tensor | None, basis: Tensor | None = None
) -> Tensor:
    """Features (..., C) float32 on the device of ``codes``; the scales are None for float16, the basis but for PCA."""
    features = codes.to(torch.float32)
    if token_scale is not None and channel_scale is not None:
        features.mul_(token_scale.unsqueeze(-1)).mul_(channel_scale)
    if basis is None:
        return features
    with torch.autocast(codes.device.type, enabled=False):  # a student's bf16 must not round the teacher
        return features @ basis


def _product(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(..., N) of rows (..., M) and a matrix (M, N), as one product: NumPy multiplies stacks of matrices one by one."""
    return (rows.reshape(-1, rows.shape[-1]) @ matrix).reshape(*rows.shape[:-1], matrix.shape[1])


def token_cosines(decoded: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Cosine of every decoded token with the exact one, (tokens,) float64.

    A token of length 0 has no direction and is left out; one that is only decoded to length 0 counts as 0.

    Args:
        decoded: (..., C) float.
        exact: (..., C) float.
    """
    a, b = (rows.reshape(-1, rows.shape[-1]).astype(np.float64, copy=False) for rows in (decoded, exact))
    products, lengths_a, lengths_b = _row_products(a, b), np.sqrt(_row_products(a, a)), np.sqrt(_row_products(b, b))
    lengths, taken = lengths_a * lengths_b, lengths_b > 0
    return np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)[taken]


def _row_products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,) inner product of every row of (N, C) with its partner; four times faster than ``(a * b).sum(axis=1)``."""
    return np.einsum("nc,nc->n", a, b)


def bytes_per_frame(channels: int, grid: tuple[int, int], cameras: int, codec: Codec) -> int:
    """Bytes on disk of one frame's features: codes and token scales, without the per-scene kilobyte of metadata."""
    tokens, width = cameras * grid[0] * grid[1], code_width(codec, channels)
    return tokens * (2 * width if codec == "float16" else width + 4)
