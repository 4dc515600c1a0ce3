"""Cosines in bounded memory against NumPy's own mean and percentile, and the warning."""

import numpy as np
import pytest

from lima_core.seeds import numpy_rng
from lima_core.stores.fidelity import CosineSketch, Fidelity, FidelityMeter, fidelity_warning, whole_fidelity


@pytest.mark.parametrize("spread", [1e-5, 1e-3, 0.1, 1.0])
@pytest.mark.parametrize("num", [1, 2, 7, 5000])
def test_sketch_is_numpys_mean_and_percentile(spread: float, num: int) -> None:
    cosines = 1 - np.minimum(spread * numpy_rng(num, "cosines").exponential(size=num), 2)
    sketch = CosineSketch()
    for part in np.array_split(cosines, 3):
        sketch.add(part)
    assert sketch.mean() == pytest.approx(cosines.mean(), abs=1e-12)
    for percent in (1, 50, 100):
        exact = np.percentile(cosines, percent)
        # Half a bin of angle, and what it is in cosine at this angle: fine where the cosine is close to 1.
        step = 0.5 * np.pi / 65536
        tolerance = step * np.sqrt(1 - min(exact, 1) ** 2) + step**2 + 1e-9
        assert sketch.percentile(percent) == pytest.approx(exact, abs=1.5 * tolerance), percent


def test_sketch_takes_both_ends_and_nothing() -> None:
    sketch = CosineSketch()
    assert (sketch.mean(), sketch.percentile(1)) == (1, 1)
    sketch.add(np.array([1 + 1e-15, -1 - 1e-15, 1, 1]))
    assert sketch.percentile(0) == pytest.approx(-1, abs=1e-8) and sketch.percentile(100) == pytest.approx(1, abs=1e-8)


def test_centred_cosine_takes_the_first_frames_mean_from_both() -> None:
    rng = numpy_rng(0, "frames")
    frames = (10 + rng.normal(size=(3, 40, 8))).astype(np.float32)
    decoded = frames + rng.normal(size=frames.shape).astype(np.float32) * np.float32(0.5)
    meter = FidelityMeter()
    for pair in zip(decoded, frames, strict=True):
        meter.add(*pair)
    mean = frames[0].astype(np.float64).mean(0)

    def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.array([x @ y / (np.linalg.norm(x) * np.linalg.norm(y)) for x, y in zip(a, b, strict=True)])

    plain = cosines(decoded.reshape(-1, 8).astype(float), frames.reshape(-1, 8).astype(float))
    centred = cosines(decoded.reshape(-1, 8) - mean, frames.reshape(-1, 8) - mean)
    found = meter.result()
    assert found.num_tokens == 120
    assert found.mean_cosine == pytest.approx(plain.mean(), abs=1e-12)
    assert found.centred_mean_cosine == pytest.approx(centred.mean(), abs=1e-12)
    assert found.centred_p1_cosine == pytest.approx(np.percentile(centred, 1), abs=3e-5)
    assert found.mean_cosine > 0.99 > 0.95 > found.centred_mean_cosine  # the common part hides the error


def test_whole_is_the_mean_over_tokens_and_the_worst_scene() -> None:
    scenes = [Fidelity(0.9, 0.5, 30, 0.8, 0.4), Fidelity(1.0, 0.7, 10, 0.6, 0.2), Fidelity(1.0, 1.0, 0, 1.0, 1.0)]
    whole = whole_fidelity(scenes)
    assert (whole.p1_cosine, whole.num_tokens, whole.centred_p1_cosine) == (0.5, 40, 0.2)
    assert whole.mean_cosine == pytest.approx(0.925) and whole.centred_mean_cosine == pytest.approx(0.75)


def test_stores_from_before_the_centred_cosine_say_that_it_is_unknown() -> None:
    whole = whole_fidelity([Fidelity(0.9, 0.5, 30), Fidelity(1.0, 0.7, 10, 0.6, 0.2)])
    assert whole.mean_cosine == pytest.approx(0.925)
    assert whole.centred_mean_cosine is None and whole.centred_p1_cosine is None


def test_warning_below_the_least_cosine() -> None:
    assert fidelity_warning("pca8", Fidelity(0.99, 0.9501, 9, 0.1, 0.1)) is None
    assert fidelity_warning("pca8", Fidelity(0.97, 0.921, 9)) == (
        "codec pca8 bends the teacher's features: cosine mean 0.970, 1st percentile 0.921, below 0.95; "
        "choose pca<D> with D above 8, or int8"
    )
