import numpy as np
import pytest

from lima_core.seeds import numpy_rng
from lima_core.synthetic.materials import MATERIALS, Atlas, build_atlas, material_index
from lima_core.synthetic.textures import SIZE, fractal, grass


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return build_atlas(3)


def test_lookup_reads_the_painted_texel(atlas: Atlas) -> None:
    index = material_index("grass")
    painted = np.clip(grass(numpy_rng(3, "texture", "grass")), 0, 1)
    rows, columns = np.random.default_rng(0).integers(0, SIZE, (2, 50))
    uv = np.stack([(columns + 0.5) / SIZE + 2, (rows + 0.5) / SIZE - 3], 1)
    found = atlas.lookup(np.full(50, index, np.uint8), uv, np.full(50, 1e-4))
    np.testing.assert_allclose(found, painted[rows, columns], atol=0.5 / 255 + 1e-5)


def test_a_coarse_footprint_reads_the_mean(atlas: Atlas) -> None:
    index = material_index("brick_facade")
    uv = np.random.default_rng(1).random((4000, 2)).astype(np.float32)
    material = np.full(4000, index, np.uint8)
    fine, coarse = (atlas.lookup(material, uv, np.full(4000, f)) for f in (1e-4, 2.0))
    np.testing.assert_allclose(coarse.mean(0), fine.mean(0), atol=0.02)
    assert coarse.std() < fine.std()


def test_textures_tile_without_a_seam() -> None:
    noise = fractal(np.random.default_rng(0), 1.2)
    inside = np.abs(np.diff(noise, axis=1)).mean()
    assert np.abs(noise[:, 0] - noise[:, -1]).mean() < 1.3 * inside


def test_no_laser_reflectance_is_one_class_alone() -> None:
    values = np.array([material.reflectance for material in MATERIALS])
    assert len(set(values.tolist())) < len(MATERIALS)
    assert ((values > 0) & (values < 1)).all()
