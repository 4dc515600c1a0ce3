import numpy as np
import pytest
import torch

from lima_core.errors import ConfigError
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


def test_a_token_decoded_to_nothing_counts_as_0() -> None:
    np.testing.assert_array_equal(codec.token_cosines(np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32)), [0])


def pca_parts(features: np.ndarray, directions: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Codes, scales and basis; a random basis, for decoding does not care which."""
    basis = np.linalg.qr(numpy_rng(2, "basis").normal(size=(64, directions)))[0].T.astype(np.float32)
    values = codec.project(features, basis)
    scale = codec.fit_channel_scale(values)
    return *codec.encode_int8(values, scale), scale, basis


def test_pca_is_the_projection_but_for_int8(features: np.ndarray) -> None:
    codes, token_scale, scale, basis = pca_parts(features, 24)
    assert codes.shape == (3, 4, 5, 24) and codes.dtype == np.int8
    projected = features @ (basis.T @ basis)
    assert codec.token_cosines(codec.decode(codes, token_scale, scale, basis), projected).min() > 0.9998


def test_every_direction_of_a_full_basis_is_no_worse_than_int8(features: np.ndarray) -> None:
    assert codec.token_cosines(codec.decode(*pca_parts(features, 64)), features).min() > 0.9998


@pytest.mark.parametrize("autocast", [False, True])
def test_torch_decodes_pca_as_numpy_does(features: np.ndarray, autocast: bool) -> None:
    parts = pca_parts(features, 24)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        decoded = codec.decode_torch(*map(torch.from_numpy, parts))
    assert decoded.dtype == torch.float32 and decoded.shape == (3, 4, 5, 64)
    np.testing.assert_allclose(decoded.numpy(), codec.decode(*parts), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "directions"), [("pca1", 1), ("pca64", 64), ("int8", None), ("pca0", None)])
def test_directions_of_a_name(name: str, directions: int | None) -> None:
    assert codec.num_directions(name) == directions


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("int9", "did you mean 'int8'?"),
        ("pac64", "did you mean 'pca64'?"),
        ("pca064", "did you mean 'pca64'?"),
        ("pca0", "any pca<D> with D from 1 to the teacher's channels"),
        ("pca-3", "any pca<D> with D from 1 to the teacher's channels"),
        ("pca", "any pca<D> with D from 1 to the teacher's channels"),
    ],
)
def test_unknown_codec_names_the_known_ones(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        codec.known_codec(name)
    assert str(raised.value).startswith(f"{name!r} is not known; ") and hint in str(raised.value)
    assert "known: float16, int8, pca128, pca32, pca64" in str(raised.value)


def test_more_directions_than_channels_are_refused() -> None:
    for name in ("pca384", "pca1", "int8", "float16"):
        codec.check_directions(name, 384)
    message = "here: codec pca385 of a teacher with 384 channels; choose pca<D> with D from 1 to 384, or int8"
    with pytest.raises(ConfigError, match=message):
        codec.check_directions("pca385", 384, where="here")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("float16", 6 * 16 * 32 * 384 * 2), ("int8", 6 * 16 * 32 * 388), ("pca64", 6 * 16 * 32 * 68)],
)
def test_bytes_of_a_frame(name: codec.Codec, expected: int) -> None:
    assert codec.bytes_per_frame(384, (16, 32), 6, name) == expected
