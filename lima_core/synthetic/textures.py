"""Painters of tileable procedural textures: (S, S, 4) float32 RGB plus the share that takes an object's own colour.

Rows run with v (up on walls), columns with u. Every painter is a function of its generator alone.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import scipy.fft

from lima_core.seeds import numpy_rng

SIZE = 512
"""Texels a tile, both ways."""

Painter = Callable[[np.random.Generator], np.ndarray]
Colour = tuple[float, float, float]


@lru_cache(maxsize=32)
def _noise(roughness: float) -> np.ndarray:
    """One tileable noise (S, S) a roughness, the same in every world."""
    squared = (np.fft.fftfreq(SIZE)[:, None] ** 2 + np.fft.rfftfreq(SIZE)[None] ** 2) * SIZE**2
    white = numpy_rng(0, "noise", f"{roughness:g}").standard_normal((SIZE, SIZE), np.float32)
    spectrum = scipy.fft.rfft2(white)
    spectrum *= np.maximum(squared, 1.0).astype(np.float32) ** np.float32(-roughness / 2)
    spectrum[0, 0] = 0
    noise = scipy.fft.irfft2(spectrum, s=(SIZE, SIZE))
    return noise / noise.std()


def fractal(rng: np.random.Generator, roughness: float) -> np.ndarray:
    """Tileable noise (S, S) of mean 0 and deviation 1, spectrum falling with frequency to the power ``roughness``.

    The generator shifts, mirrors and negates one noise a roughness, which looks as good as a noise of its own.
    """
    down, right, mirrored, sign = (int(value) for value in rng.integers((SIZE, SIZE, 2, 2)))
    noise = _noise(roughness)[:, :: 1 - 2 * mirrored]
    return np.roll(noise, (down, right), (0, 1)) * np.float32(1 - 2 * sign)


def grid() -> tuple[np.ndarray, np.ndarray]:
    """U and v of every texel, (S, S) each, in 0..1."""
    axis = (np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE
    v, u = np.meshgrid(axis, axis, indexing="ij")
    return u, v


def canvas(colour: Colour, tintable: float, *noises: np.ndarray) -> np.ndarray:
    """One colour with noises (S, S) added to its brightness as a factor."""
    bright = np.ones((SIZE, SIZE), np.float32)
    for noise in noises:
        bright += noise
    out = np.empty((SIZE, SIZE, 4), np.float32)
    for i in range(3):
        np.multiply(bright, np.float32(colour[i]), out=out[..., i])
    out[..., 3] = tintable
    return out


def paint(image: np.ndarray, where: np.ndarray, colour: Colour, tintable: float = 0.0) -> None:
    """Sets the texels of a mask to one colour, keeping a little of what is below."""
    rows, flat = np.flatnonzero(where), image.reshape(-1, 4)
    texels = flat.take(rows, 0) * np.array([0.12, 0.12, 0.12, 0.0], np.float32)
    texels += np.array([*(0.88 * np.asarray(colour)), tintable], np.float32)
    flat[rows] = texels


def cells(rng: np.random.Generator, across: int, up: int, shift: float = 0.0) -> tuple[np.ndarray, ...]:
    """Position inside the cell (u, v in 0..1) and one random number a cell, each (S, S); odd rows shifted."""
    u, v = grid()
    row, risen = (v * up).astype(np.int32), v * np.float32(up)
    moved = u * np.float32(across) + np.float32(shift) * (row & 1)
    column = moved.astype(np.int32) % across
    return moved - np.floor(moved), risen - np.floor(risen), rng.random((up, across)).astype(np.float32)[row, column]


def speckled(colour: Colour, tintable: float, coarse: float, fine: float) -> Painter:
    """Mottled stuff: soil, cloth, rubber, metal."""
    return lambda rng: canvas(colour, tintable, coarse * fractal(rng, 1.5), fine * fractal(rng, 0.2))


def asphalt(rng: np.random.Generator) -> np.ndarray:
    """Grey, grainy, with patches and cracks."""
    image = canvas((0.30, 0.30, 0.31), 1.0, 0.08 * fractal(rng, 1.6), 0.10 * fractal(rng, 0.0))
    image[np.abs(fractal(rng, 1.9)) < 0.012, :3] *= 0.6
    return image


def road(width_m: float, solid_m: tuple[float, ...], dashed_m: tuple[float, ...], centre: Colour) -> Painter:
    """Asphalt of a whole carriageway: v is across it, lines at distances from its middle."""

    def painter(rng: np.random.Generator) -> np.ndarray:
        image, (u, v) = asphalt(rng), grid()
        across = np.abs(v - 0.5) * width_m
        image[..., :3] *= (1 - 0.10 * np.cos(across * 2 * np.pi / 1.75))[..., None]
        worn = fractal(rng, 0.6) < 1.1
        for offset in solid_m:
            paint(image, (np.abs(across - offset) < 0.08) & worn, (0.80, 0.80, 0.77))
        for offset in dashed_m:
            on = (np.abs(across - offset) < 0.09) & ((u * 3) % 1 < 0.5) & worn
            paint(image, on, centre if offset < 0.3 else (0.80, 0.80, 0.77))
        return image

    return painter


def zebra(rng: np.random.Generator) -> np.ndarray:
    """Crosswalk: stripes across v."""
    image, (_, v) = asphalt(rng), grid()
    paint(image, ((v * 4) % 1 < 0.5) & (fractal(rng, 0.6) < 1.0), (0.78, 0.78, 0.75))
    return image


def slabs(colour: Colour, across: int, up: int, shift: float, joint: float, spread: float) -> Painter:
    """Paving: slabs of varying brightness with dark joints."""

    def painter(rng: np.random.Generator) -> np.ndarray:
        u, v, tone = cells(rng, across, up, shift)
        image = canvas(colour, 1.0, spread * (tone - 0.5), 0.05 * fractal(rng, 0.3), 0.05 * fractal(rng, 1.6))
        image[(u < joint) | (v < joint * up / across), :3] *= 0.62
        return image

    return painter


def hatched(rng: np.random.Generator) -> np.ndarray:
    """Paved apron with worn yellow diagonals."""
    u, v = grid()
    image = canvas((0.42, 0.40, 0.38), 1.0, 0.08 * fractal(rng, 1.4), 0.06 * fractal(rng, 0.2))
    paint(image, (((u + v) * 3) % 1 < 0.18) & (fractal(rng, 0.8) < 0.7), (0.72, 0.60, 0.22))
    return image


def grass(rng: np.random.Generator) -> np.ndarray:
    """Blades, with dry patches."""
    image = canvas((0.27, 0.38, 0.14), 1.0, 0.22 * fractal(rng, 0.35), 0.10 * fractal(rng, 1.6))
    dry = np.clip(fractal(rng, 1.5) - 0.6, 0, 1)[..., None] * 0.6
    image[..., :3] = image[..., :3] * (1 - dry) + np.array([0.42, 0.36, 0.20], np.float32) * dry
    return image


def foliage(rng: np.random.Generator) -> np.ndarray:
    """Leaves over darkness."""
    leaf = fractal(rng, 0.7)
    image = canvas((0.22, 0.32, 0.10), 1.0, 0.35 * leaf, 0.15 * fractal(rng, 0.1))
    image[leaf < -0.9, :3] *= 0.45
    return image


def wall(rng: np.random.Generator, kind: str) -> np.ndarray:
    """Bare wall that takes a building's colour: ``brick``, ``plaster`` or ``panel``."""
    if kind == "brick":
        u, v, tone = cells(rng, 48, 128, 0.5)
        image = canvas((0.92, 0.88, 0.86), 1.0, 0.35 * (tone - 0.5), 0.06 * fractal(rng, 0.4))
        image[(u < 0.10) | (v < 0.25), :3] = (0.78, 0.77, 0.74)
        return image
    image = canvas((0.95, 0.94, 0.92), 1.0, 0.05 * fractal(rng, 1.6), 0.02 * fractal(rng, 0.2))
    if kind == "panel":
        u, v, tone = cells(rng, 8, 4)
        image[..., :3] *= (0.93 + 0.14 * tone)[..., None]
        image[(u < 0.02) | (v < 0.012), :3] *= 0.55
    return image


def facade(kind: str, columns: int, rows: int, window: tuple[float, float, float, float]) -> Painter:
    """Wall with a grid of windows; ``window`` is u0, u1, v0, v1 inside a cell."""

    def painter(rng: np.random.Generator) -> np.ndarray:
        image = wall(rng, kind)
        u, v, tone = cells(rng, columns, rows)
        u0, u1, v0, v1 = window
        frame = (u > u0 - 0.03) & (u < u1 + 0.03) & (v > v0 - 0.03) & (v < v1 + 0.03)
        glass = (u > u0) & (u < u1) & (v > v0) & (v < v1) & (np.abs(u - (u0 + u1) / 2) > 0.012)
        paint(image, frame, (0.82, 0.82, 0.80))
        paint(image, glass, (0.14, 0.18, 0.22))
        image[glass, :3] += (0.22 * (tone * v)[glass])[:, None] * np.array([0.8, 0.9, 1.0], np.float32)
        paint(image, glass & (tone > 0.82) & (v > (v0 + v1) / 2), (0.72, 0.68, 0.58))
        image[(v > v0 - 0.08) & (v < v0 - 0.03) & (u > u0 - 0.05) & (u < u1 + 0.05), :3] *= 0.8
        return image

    return painter


def shopfront(rng: np.random.Generator) -> np.ndarray:
    """Ground floor: panes, a door, a coloured sign band above."""
    u, v, _ = cells(rng, 2, 1)
    image = canvas((0.60, 0.58, 0.55), 0.4, 0.05 * fractal(rng, 1.0))
    pane = (v > 0.12) & (v < 0.70) & (u > 0.06) & (u < 0.94) & (np.abs(u - 0.66) > 0.015)
    paint(image, pane, (0.16, 0.19, 0.22))
    image[pane, :3] += 0.10 * np.clip(fractal(rng, 1.3), -1, 2)[pane][:, None]
    paint(image, (v > 0.78) & (v < 0.97), (0.85, 0.80, 0.75), 1.0)
    paint(image, (v > 0.84) & (v < 0.91) & (u > 0.2) & (u < 0.8) & ((u * 13) % 1 < 0.6), (0.95, 0.95, 0.92))
    return image


def stripes(first: Colour, second: Colour, count: int, slant: float, tintable: float = 0.0) -> Painter:
    """Alternating bands along v, slanted along u."""

    def painter(rng: np.random.Generator) -> np.ndarray:
        u, v = grid()
        image = canvas(first, tintable, 0.06 * fractal(rng, 0.8))
        paint(image, ((v * count + u * slant) % 1) < 0.5, second, tintable)
        return image

    return painter


def ribbed(colour: Colour, count: int, depth: float, tintable: float = 1.0) -> Painter:
    """Upright ribs: corrugated metal, planks, container walls."""

    def painter(rng: np.random.Generator) -> np.ndarray:
        u, _ = grid()
        return canvas(colour, tintable, depth * np.sin(u * count * 2 * np.pi), 0.05 * fractal(rng, 1.3))

    return painter


def bark(rng: np.random.Generator) -> np.ndarray:
    """Fissures along v."""
    noise = fractal(rng, 0.8)
    return canvas((0.33, 0.26, 0.20), 1.0, 0.30 * np.repeat(noise[::8], 8, axis=0), 0.1 * fractal(rng, 0.2))


def bus_side(rng: np.random.Generator) -> np.ndarray:
    """Window band with posts, a stripe below, doors."""
    u, v = grid()
    image = canvas((0.92, 0.92, 0.92), 1.0, 0.02 * fractal(rng, 1.2))
    paint(image, (v > 0.10) & (v < 0.17), (0.90, 0.90, 0.88))
    band = (v > 0.42) & (v < 0.80) & ((u * 8) % 1 > 0.05)
    paint(image, band, (0.10, 0.12, 0.14))
    image[band, :3] += 0.08 * np.clip(fractal(rng, 1.6), -1, 2)[band][:, None]
    door = (np.abs(u - 0.12) < 0.05) | (np.abs(u - 0.55) < 0.05)
    paint(image, door & (v > 0.08) & (v < 0.80) & (np.abs((u * 20) % 1 - 0.4) > 0.04), (0.13, 0.15, 0.17))
    return image


def cargo(rng: np.random.Generator) -> np.ndarray:
    """Box body with a lettered panel and rivets."""
    u, v = grid()
    image = canvas((0.93, 0.93, 0.92), 0.8, 0.03 * fractal(rng, 1.4))
    paint(image, (v > 0.35) & (v < 0.68) & (u > 0.15) & (u < 0.85), (0.88, 0.88, 0.88), 1.0)
    letters = (v > 0.44) & (v < 0.59) & (u > 0.22) & (u < 0.78) & ((u * 11) % 1 < 0.62)
    paint(image, letters, (0.97, 0.97, 0.95))
    image[(u * 16) % 1 < 0.03, :3] *= 0.75
    return image


def glass(rng: np.random.Generator) -> np.ndarray:
    """Dark, with a soft bright streak."""
    u, v = grid()
    streak = 0.5 + 0.5 * np.sin((u * 2 + v) * 2 * np.pi)
    return canvas((0.13, 0.15, 0.18), 0.0, 0.5 * streak, 0.15 * fractal(rng, 1.6))


def rim(rng: np.random.Generator) -> np.ndarray:
    """Alloy spokes in a tyre, over the whole tile."""
    u, v = grid()
    radius, angle = np.hypot(u - 0.5, v - 0.5), np.arctan2(v - 0.5, u - 0.5)
    image = canvas((0.10, 0.10, 0.10), 0.0, 0.1 * fractal(rng, 0.5))
    paint(image, (radius < 0.34) & (np.cos(angle * 5) > -0.4), (0.55, 0.56, 0.58))
    return image


def signal(rng: np.random.Generator) -> np.ndarray:
    """Traffic light: three lamps in black, one lit."""
    u, v = grid()
    image = canvas((0.08, 0.08, 0.08), 0.0, 0.1 * fractal(rng, 0.5))
    for row, colour in ((0.83, (0.25, 0.05, 0.05)), (0.5, (0.28, 0.20, 0.04)), (0.17, (0.15, 0.95, 0.45))):
        paint(image, np.hypot(u - 0.5, (v - row) * 3) < 0.36, colour)
    return image


def sign(rng: np.random.Generator) -> np.ndarray:
    """Plate with a white rim and a bar, in the sign's own colour."""
    u, v = grid()
    image = canvas((0.95, 0.95, 0.95), 1.0, 0.02 * fractal(rng, 1.0))
    paint(image, np.maximum(np.abs(u - 0.5), np.abs(v - 0.5)) > 0.43, (0.95, 0.95, 0.95))
    paint(image, (np.abs(v - 0.5) < 0.10) & (np.abs(u - 0.5) < 0.32), (0.95, 0.95, 0.95))
    return image
