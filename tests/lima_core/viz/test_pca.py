import numpy as np

from lima_core.viz.pca import fit_pca, unit


def features(rng: np.random.Generator, rows: int = 500, channels: int = 12) -> np.ndarray:
    scale = np.array([9, 6, 4, *[0.1] * (channels - 3)])
    return rng.normal(size=(rows, channels)) * scale + 20 * np.eye(channels)[-1]


def test_directions_are_those_of_the_singular_value_decomposition() -> None:
    rows = features(np.random.default_rng(0))
    fitted = fit_pca(rows)
    centred = unit(rows) - unit(rows).mean(axis=0)
    wanted = np.linalg.svd(centred, full_matrices=False)[2][:3].T
    np.testing.assert_allclose(np.abs(fitted.basis.T @ wanted), np.eye(3), atol=1e-8)


def test_colours_use_the_whole_range_whatever_the_length() -> None:
    rows = features(np.random.default_rng(1))
    fitted = fit_pca(rows)
    rgb = fitted(rows)
    assert rgb.dtype == np.uint8 and rgb.min() == 0 and rgb.max() == 255
    np.testing.assert_array_equal(fitted(7.0 * rows), rgb)
    np.testing.assert_array_equal(fitted(rows.reshape(50, 10, -1)), rgb.reshape(50, 10, 3))


def test_same_features_in_another_order_give_the_same_colours() -> None:
    rng = np.random.default_rng(2)
    rows = features(rng)
    np.testing.assert_allclose(fit_pca(rng.permutation(rows)).basis, fit_pca(rows).basis, atol=1e-8)


def test_fewer_channels_than_colours() -> None:
    rgb = fit_pca(np.random.default_rng(3).normal(size=(30, 2)))(np.ones((4, 2)))
    assert rgb.shape == (4, 3) and np.isfinite(rgb).all()
