import numpy as np
import pytest
import torch

from lima_core.seeds import numpy_rng
from lima_core.stores import codec


@pytest.fixture
def features() -> np.ndarray:
    """(3, 4, 5, 64) float32 with a power-law spectrum and two channels far above the others, as ViT tokens have."""
    values = numpy_rng(0, "tokens").normal(size=(3, 4, 5, 64)) / np.arange(1, 65) ** 0.7
    values[..., [3, 40]] *= 40
    return values.astype(np.float32)


def test_int8_keeps_direction_and_length(features: np.ndarray) -> None:
    scale = codec.fit_channel_scale(features[0])
    codes, token_scale = codec.encode_int8(features, scale)
    decoded = codec.decode(codes, token_scale, scale)
    cosines = codec.token_cosines(decoded, features)
    assert cosines.mean() > 0.99998 and cosines.min() > 0.9999
    lengths = np.linalg.norm(decoded, axis=-1) / np.linalg.norm(features, axis=-1)
    np.testing.assert_allclose(lengths, 1, atol=0.01)


def test_int8_error_is_at_most_half_a_step_of_every_channel(features: np.ndarray) -> None:
    scale = codec.fit_channel_scale(features)
    codes, token_scale = codec.encode_int8(features, scale)
    steps = token_scale[..., None].astype(np.float64) * scale
    error = np.abs(codes.astype(np.float64) * steps - features)
    assert (error <= 0.5001 * steps).all()
    assert (np.abs(codes.astype(int)).max(axis=-1) == 127).all()


def test_small_channels_survive_beside_large_ones(features: np.ndarray) -> None:
    scale = codec.fit_channel_scale(features)
    decoded = codec.decode(*codec.encode_int8(features, scale), scale)
    small = np.delete(np.arange(64), [3, 40])
    assert codec.token_cosines(decoded[..., small], features[..., small]).min() > 0.99


def test_zero_tokens_and_zero_channels_stay_zero() -> None:
    features = np.ones((2, 3), np.float32)
    features[0] = 0
    features[:, 1] = 0
    scale = codec.fit_channel_scale(features)
    assert (scale > 0).all()
    decoded = codec.decode(*codec.encode_int8(features, scale), scale)
    assert (decoded[features == 0] == 0).all()


def test_torch_decodes_the_same_bits(features: np.ndarray) -> None:
    scale = codec.fit_channel_scale(features)
    codes, token_scale = codec.encode_int8(features, scale)
    tensors = (torch.from_numpy(codes), torch.from_numpy(token_scale), torch.from_numpy(scale))
    np.testing.assert_array_equal(codec.decode_torch(*tensors).numpy(), codec.decode(codes, token_scale, scale))


def test_float16_is_exact_to_half_precision(features: np.ndarray) -> None:
    codes = features.astype(codec.code_dtype("float16"))
    decoded = codec.decode(codes, None, None)
    np.testing.assert_allclose(decoded, features, rtol=2**-11, atol=2**-24)
    np.testing.assert_array_equal(codec.decode_torch(torch.from_numpy(codes), None, None).numpy(), decoded)


def test_cosines_leave_out_tokens_without_length() -> None:
    exact = np.array([[1, 0], [0, 0], [1, 1]], np.float32)
    np.testing.assert_allclose(
        codec.token_cosines(np.array([[1, 1], [1, 0], [2, 2]], np.float32), exact), [0.5**0.5, 1]
    )


@pytest.mark.parametrize(("name", "expected"), [("float16", 6 * 16 * 32 * 384 * 2), ("int8", 6 * 16 * 32 * 388)])
def test_bytes_of_a_frame(name: codec.Codec, expected: int) -> None:
    assert codec.bytes_per_frame(384, (16, 32), 6, name) == expected
