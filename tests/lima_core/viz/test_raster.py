import numpy as np

from lima_core.viz.raster import disc, splat


def one_by_one(
    canvas: np.ndarray, uv_px: np.ndarray, rgb: np.ndarray, rank: np.ndarray, radius_px: float
) -> np.ndarray:
    """The same, pixel by pixel."""
    drawn = canvas.copy()
    for point in sorted(range(len(rank)), key=lambda i: rank[i]):
        column, row = (round(float(value)) for value in uv_px[point])
        for dx, dy in disc(radius_px):
            if 0 <= row + dy < canvas.shape[0] and 0 <= column + dx < canvas.shape[1]:
                drawn[row + dy, column + dx] = rgb[point]
    return drawn


def test_disc() -> None:
    assert len(disc(0)) == 1
    assert sorted(map(tuple, disc(1).tolist())) == [(-1, 0), (0, -1), (0, 0), (0, 1), (1, 0)]


def test_same_as_pixel_by_pixel_with_overlap_and_points_outside() -> None:
    rng = np.random.default_rng(0)
    canvas = rng.integers(0, 255, (20, 30, 3)).astype(np.uint8)
    uv_px, rgb = rng.uniform(-4, 34, (80, 2)), rng.integers(0, 255, (80, 3)).astype(np.uint8)
    rank = rng.permutation(80).astype(float)
    before = canvas.copy()
    drawn = splat(canvas, uv_px, rgb, rank, 1.5)
    np.testing.assert_array_equal(drawn, one_by_one(canvas, uv_px, rgb, rank, 1.5))
    np.testing.assert_array_equal(canvas, before)


def test_no_points() -> None:
    canvas = np.zeros((4, 5, 3), np.uint8)
    empty = splat(canvas, np.zeros((0, 2)), np.zeros((0, 3), np.uint8), np.zeros(0), 1)
    np.testing.assert_array_equal(empty, canvas)
