"""What surfaces are made of: texture, gloss, and how they answer a laser. One line a material.

Laser reflectances overlap between classes on purpose (paint, wall and sign spread over the whole scale), so intensity
helps a network but does not give the class away.
"""

from dataclasses import dataclass

import numpy as np

from lima_core.seeds import numpy_rng
from lima_core.synthetic import textures as t
from lima_core.synthetic.textures import SIZE, Painter

NUM_LEVELS = 8


@dataclass(frozen=True)
class Material:
    """One material."""

    name: str
    tile_m: tuple[float, float]
    """Size of a texture tile along u and v."""
    painter: Painter
    reflectance: float
    """Laser answer of a surface of medium brightness, 0..1."""
    gloss: float = 0.0
    """Share of sky mirrored at grazing sight."""


MATERIALS: tuple[Material, ...] = (
    Material("asphalt", (9.0, 9.0), t.asphalt, 0.16),
    Material("street", (12.0, 12.0), t.road(12.0, (3.7,), (0.0,), (0.78, 0.66, 0.20)), 0.16),
    Material("avenue", (18.0, 18.0), t.road(18.0, (1.15, 8.6), (4.5,), (0.8, 0.8, 0.77)), 0.16),
    Material("zebra", (4.0, 4.0), t.zebra, 0.20),
    Material("slabs", (4.0, 4.0), t.slabs((0.56, 0.54, 0.51), 6, 6, 0.0, 0.05, 0.25), 0.24),
    Material("pavers", (3.0, 3.0), t.slabs((0.50, 0.46, 0.42), 10, 20, 0.5, 0.07, 0.35), 0.22),
    Material("cobbles", (3.0, 3.0), t.slabs((0.50, 0.38, 0.32), 14, 14, 0.5, 0.16, 0.55), 0.21),
    Material("hatched", (5.0, 5.0), t.hatched, 0.20),
    Material("kerb", (4.0, 4.0), t.speckled((0.58, 0.57, 0.55), 1.0, 0.08, 0.06), 0.26),
    Material("grass", (7.0, 7.0), t.grass, 0.30),
    Material("soil", (6.0, 6.0), t.speckled((0.40, 0.31, 0.21), 1.0, 0.20, 0.14), 0.24),
    Material("brick_facade", (12.0, 12.0), t.facade("brick", 4, 4, (0.30, 0.70, 0.28, 0.78)), 0.30, 0.10),
    Material("plaster_facade", (12.0, 12.8), t.facade("plaster", 4, 4, (0.34, 0.66, 0.25, 0.80)), 0.42, 0.10),
    Material("panel_facade", (14.0, 13.2), t.facade("panel", 3, 4, (0.08, 0.92, 0.36, 0.82)), 0.36, 0.15),
    Material("glass_facade", (12.0, 12.0), t.facade("panel", 8, 4, (0.06, 0.94, 0.06, 0.88)), 0.20, 0.45),
    Material("brick", (4.0, 4.0), lambda rng: t.wall(rng, "brick"), 0.30),
    Material("shopfront", (8.0, 3.6), t.shopfront, 0.26, 0.2),
    Material("roof", (6.0, 6.0), t.speckled((0.46, 0.44, 0.42), 0.6, 0.10, 0.14), 0.22),
    Material("corrugated", (8.0, 8.0), t.ribbed((0.72, 0.73, 0.74), 40, 0.18), 0.45, 0.1),
    Material("planks", (3.0, 3.0), t.ribbed((0.60, 0.45, 0.30), 20, 0.25), 0.33),
    Material("metal", (2.0, 2.0), t.speckled((0.52, 0.54, 0.55), 1.0, 0.05, 0.05), 0.40, 0.15),
    Material("sign", (1.0, 1.0), t.sign, 0.85),
    Material("signal", (1.0, 1.0), t.signal, 0.30),
    Material("bark", (1.0, 2.0), t.bark, 0.22),
    Material("foliage", (4.0, 4.0), t.foliage, 0.34),
    Material("paint", (4.0, 4.0), t.speckled((0.95, 0.95, 0.95), 1.0, 0.02, 0.01), 0.38, 0.35),
    Material("glass", (3.0, 1.5), t.glass, 0.08, 0.55),
    Material("rubber", (1.0, 1.0), t.speckled((0.11, 0.11, 0.11), 0.0, 0.1, 0.15), 0.10),
    Material("rim", (1.0, 1.0), t.rim, 0.25),
    Material("headlight", (1.0, 1.0), t.speckled((0.96, 0.95, 0.88), 0.0, 0.02, 0.02), 0.55),
    Material("taillight", (1.0, 1.0), t.speckled((0.72, 0.08, 0.08), 0.0, 0.05, 0.05), 0.70),
    Material("plate", (0.6, 0.2), t.stripes((0.9, 0.9, 0.85), (0.3, 0.3, 0.3), 1, 5.0), 0.95),
    Material("bus_side", (12.0, 3.1), t.bus_side, 0.36, 0.25),
    Material("cargo", (6.5, 2.8), t.cargo, 0.44, 0.1),
    Material("container", (6.0, 2.6), t.ribbed((0.85, 0.85, 0.85), 26, 0.22), 0.36, 0.08),
    Material("machine", (2.0, 2.0), t.speckled((0.92, 0.90, 0.88), 1.0, 0.10, 0.05), 0.40, 0.1),
    Material("warning", (1.6, 1.6), t.stripes((0.92, 0.72, 0.08), (0.08, 0.08, 0.08), 3, 3.0), 0.55),
    Material("cloth", (0.8, 0.8), t.speckled((0.90, 0.90, 0.90), 1.0, 0.12, 0.12), 0.34),
    Material("striped_cloth", (0.5, 0.5), t.stripes((0.90, 0.90, 0.90), (0.45, 0.45, 0.48), 4, 0.0, 1.0), 0.34),
    Material("denim", (0.6, 0.6), t.speckled((0.22, 0.26, 0.38), 0.6, 0.12, 0.18), 0.26),
    Material("skin", (0.5, 0.5), t.speckled((0.80, 0.62, 0.50), 1.0, 0.05, 0.04), 0.36),
    Material("hair", (0.3, 0.3), t.speckled((0.18, 0.13, 0.10), 0.8, 0.15, 0.2), 0.12),
    Material("vest", (0.5, 0.5), t.stripes((0.95, 0.62, 0.10), (0.88, 0.90, 0.80), 1, 0.0), 0.80),
    Material("cone", (0.8, 0.5), t.stripes((0.92, 0.36, 0.10), (0.90, 0.88, 0.85), 2, 0.0), 0.60),
    Material("jersey", (2.0, 2.0), t.speckled((0.66, 0.65, 0.62), 1.0, 0.10, 0.08), 0.32),
    Material("redwhite", (1.2, 0.8), t.stripes((0.84, 0.82, 0.80), (0.74, 0.14, 0.12), 1, 2.0), 0.60),
)


_TEXELS_A_METRE = np.array([SIZE / np.sqrt(m.tile_m[0] * m.tile_m[1]) for m in MATERIALS], np.float32)
_INDEX = {material.name: index for index, material in enumerate(MATERIALS)}


def material_index(name: str) -> int:
    """Row of a material in ``MATERIALS``."""
    return _INDEX[name]


@dataclass(frozen=True)
class Atlas:
    """All textures with their mip levels as one flat table, so that a million lookups are one gather."""

    texels: np.ndarray
    """(T,) uint32, four bytes R G B tintable."""
    start: np.ndarray
    """(levels,) int32, first texel of a level; inside it material, row, column."""

    def texels_at(self, material: np.ndarray, u: np.ndarray, v: np.ndarray, texel_m: np.ndarray) -> np.ndarray:
        """Texels (N, 4) uint8 at texture positions u, v (N,) of a pixel footprint (N,) in metres; all float32."""
        ratio = texel_m * _TEXELS_A_METRE[material]
        np.clip(ratio, 1.0, float(1 << (NUM_LEVELS - 1)), out=ratio)
        level = (ratio.view(np.int32) >> 23) - 127
        size = np.int32(SIZE) >> level
        column, row = (np.floor(a * size.astype(np.float32)).astype(np.int32) & (size - 1) for a in (u, v))
        index = self.start[level] + (material.astype(np.int32) * size + row) * size + column
        return self.texels.take(index).view(np.uint8).reshape(-1, 4)

    def lookup(self, material: np.ndarray, uv: np.ndarray, texel_m: np.ndarray) -> np.ndarray:
        """Colours (N, 4) float32 in 0..1 at texture positions (N, 2) of a pixel footprint (N,) in metres."""
        u, v, footprint = (np.asarray(a, np.float32) for a in (uv[:, 0], uv[:, 1], texel_m))
        return self.texels_at(material, u, v, footprint).astype(np.float32) / 255


def build_atlas(seed: int) -> Atlas:
    """Paints every material and halves it level by level."""
    levels: list[list[np.ndarray]] = [[] for _ in range(NUM_LEVELS)]
    for material in MATERIALS:
        image = material.painter(numpy_rng(seed, "texture", material.name))
        image = np.clip(image, 0, 1, out=image)
        image *= 255
        for level in levels:
            level.append((image + np.float32(0.5)).astype(np.uint8).view(np.uint32).reshape(-1))
            image = image[::2] + image[1::2]
            image = (image[:, ::2] + image[:, 1::2]) * np.float32(0.25)
    start = np.cumsum([0, *(sum(map(len, level)) for level in levels)])[:-1].astype(np.int32)
    return Atlas(np.concatenate([texels for level in levels for texels in level]), start)
