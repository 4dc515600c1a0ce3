import numpy as np
import pytest

from lima_core.synthetic.caster import FAR_M, build_caster, cast, shadowed
from lima_core.synthetic.mesh import merge
from lima_core.synthetic.shapes import Look, box

BOXES = [box((x, -2, x + 1, 3), -1.0, 2.0, Look("brick")) for x in (5.0, 9.0)]


def _rays(count: int) -> tuple[np.ndarray, np.ndarray]:
    directions = np.random.default_rng(0).standard_normal((count, 3)) * [0.2, 0.2, 0.2] + [1, 0, 0]
    return np.zeros(3), directions / np.linalg.norm(directions, axis=1, keepdims=True)


def _slab(directions: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        a, b = low / directions, high / directions
    near, far = np.minimum(a, b).max(1), np.maximum(a, b).min(1)
    return np.where((near <= far) & (near > 0), near, FAR_M)


def test_ranges_agree_with_the_slab_test() -> None:
    origins, directions = _rays(3000)
    expected = np.minimum(*(_slab(directions, np.array([x, -2, -1]), np.array([x + 1, 3, 2])) for x in (5.0, 9.0)))
    mesh = merge(BOXES)
    hits = cast([build_caster(mesh.triangles, np.arange(len(mesh)))], origins, directions)
    assert np.mean(np.abs(hits.range_m - expected) < 1e-3) > 0.999
    assert (np.einsum("ji,ij->i", hits.normal, directions) <= 0).all()


def test_several_casters_are_one_mesh() -> None:
    origins, directions = _rays(3000)
    mesh = merge(BOXES)
    whole = cast([build_caster(mesh.triangles, np.arange(24))], origins, directions)
    order = [build_caster(BOXES[i].triangles, np.arange(12) + 12 * i) for i in (1, 0)]
    parts = cast(order, origins, directions)
    np.testing.assert_array_equal(parts.face, whole.face)
    np.testing.assert_allclose(parts.range_m, whole.range_m, rtol=1e-6)


@pytest.mark.parametrize(("x", "dark"), [(5.5, True), (7.5, False)])
def test_shadow_falls_below_a_box_and_not_beside_it(x: float, dark: bool) -> None:
    caster = build_caster(BOXES[0].triangles, np.arange(12))
    point = np.array([[x, 0.0, -3.0]], np.float32)
    assert shadowed([caster], point, np.array([0, 0, 1], np.float32)).tolist() == [dark]
