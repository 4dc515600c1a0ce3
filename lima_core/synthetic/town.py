"""Everything in a town that stands still and is not an actor: ground, houses, greenery, street furniture."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from lima_core.seeds import numpy_rng
from lima_core.synthetic import furniture
from lima_core.synthetic.buildings import rows
from lima_core.synthetic.categories import raw
from lima_core.synthetic.greenery import Greens, hedge, pick
from lima_core.synthetic.mesh import Mesh, labelled, merge, stood
from lima_core.synthetic.palette import Palette
from lima_core.synthetic.plan import CROSSWALK_M, KERB_M, SIDEWALK_M, Block, Plan, Road, border, inside, segments
from lima_core.synthetic.shapes import Look, Rect, about, box
from lima_core.synthetic.terrain import Hills, sheet

VERGE_M = 1.5
SETBACK_M = 3.5


@dataclass(frozen=True)
class Site:
    """What every builder of a town needs."""

    plan: Plan
    hills: Hills
    palette: Palette
    greens: Greens
    street: furniture.Street
    seed: int


def _tinted(material: str, tint: tuple[float, float, float], rng: np.random.Generator, spread: float = 0.12) -> Look:
    return Look(material, tuple(np.asarray(tint) * rng.uniform(1 - spread, 1 + spread)))


def _strip(road: Road, start_m: float, stop_m: float, half_m: float) -> Rect:
    low, high = road.centre_m - half_m, road.centre_m + half_m
    return (start_m, low, stop_m, high) if road.axis == "x" else (low, start_m, high, stop_m)


def road_ground(site: Site, road: Road, rng: np.random.Generator) -> list[Mesh]:
    """Carriageway with its lines, crosswalks, and on avenues a raised island in the middle."""
    drive, island = raw("flat.driveable_surface"), raw("flat.other")
    lined = _tinted("avenue" if road.avenue else "street", site.palette.asphalt, rng)
    zebra = Look("zebra", lined.tint)
    parts = []
    stretches = segments(site.plan, road)
    for i, (start, stop) in enumerate(stretches):
        a = start + CROSSWALK_M * (i > 0)
        b = stop - CROSSWALK_M * (i < len(stretches) - 1)
        put = partial(sheet, above_m=0.0, hills=site.hills, raw_class=drive, along=road.axis)
        parts.append(put(_strip(road, a, b, road.half_m), look=lined))
        parts += [
            put(_strip(road, *ends, road.half_m), look=zebra) for ends in ((start, a), (b, stop)) if ends[1] > ends[0]
        ]
        if road.avenue:
            paved = _tinted(str(rng.choice(["cobbles", "hatched"])), (1, 1, 1), rng)
            rect = _strip(road, a + 1.0, b - 1.0, 0.9)
            parts.append(sheet(rect, KERB_M, paved, site.hills, island, side=Look("kerb")))
    return parts


def crossings(site: Site, rng: np.random.Generator) -> list[Mesh]:
    """Plain asphalt where roads cross."""
    plan = site.plan
    along_y, along_x = ([r for r in plan.roads if r.axis == axis] for axis in "yx")
    look = _tinted("asphalt", site.palette.asphalt, rng)
    rects = [
        (a.centre_m - a.half_m, b.centre_m - b.half_m, a.centre_m + a.half_m, b.centre_m + b.half_m)
        for a in along_y for b in along_x
    ]  # fmt: skip
    return [sheet(rect, 0.0, look, site.hills, raw("flat.driveable_surface")) for rect in rects]


def block_ground(site: Site, block: Block, rng: np.random.Generator) -> tuple[list[Mesh], Rect]:
    """Verge, sidewalk and setback of a block, and the land that is left inside."""
    hills, palette, rect, parts = site.hills, site.palette, block.rect, []
    grass = _tinted("grass", palette.grass, rng)
    rings = [(SIDEWALK_M, _tinted(str(rng.choice(["slabs", "pavers"])), palette.pavement, rng), "flat.sidewalk")]
    if block.verge:
        rings.insert(0, (VERGE_M, grass, "flat.terrain"))
    if block.setback != "none" and block.kind == "buildings":
        paved = _tinted(str(rng.choice(["cobbles", "hatched"])), (1, 1, 1), rng)
        rings.append((SETBACK_M, *((grass, "flat.terrain") if block.setback == "grass" else (paved, "flat.other"))))
    for width, look, name in rings:
        parts += [sheet(strip, KERB_M, look, hills, raw(name), side=Look("kerb")) for strip in border(rect, width)]
        rect = inside(rect, width)
    if block.kind == "plaza":
        parts.append(sheet(rect, KERB_M, _tinted("cobbles", (1, 1, 1), rng), hills, raw("flat.other")))
    else:
        inner = grass if block.kind == "park" or rng.random() < 0.5 else _tinted("soil", (1, 1, 1), rng)
        parts.append(sheet(rect, KERB_M, inner, hills, raw("flat.terrain")))
    return parts, rect


def _stand(site: Site, mesh: Mesh, x_m: float, y_m: float, yaw_rad: float = 0.0) -> Mesh:
    return stood(mesh, (x_m, y_m, float(site.hills.height(x_m, y_m)) + KERB_M), yaw_rad)


def _edges(rect: Rect) -> list[tuple[np.ndarray, np.ndarray, float, float]]:
    """Edges of a rectangle, counter-clockwise: start, direction, length, yaw of the outward side minus 90 degrees."""
    x0, y0, x1, y1 = rect
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    out = []
    for i in range(4):
        step = corners[(i + 1) % 4] - corners[i]
        length = float(np.linalg.norm(step))
        out.append((corners[i], step / length, length, float(np.arctan2(step[1], step[0]))))
    return out


def block_furniture(site: Site, block: Block, rng: np.random.Generator) -> list[Mesh]:
    """Trees, lamps, signs and bins along the kerb, traffic lights at the corners."""
    parts = []
    for start, along, length, yaw in _edges(inside(block.rect, 0.75)):
        parts.append(_stand(site, pick(site.street.signals, rng), *(start + along * (length - 1.5)), yaw))
        gap = rng.uniform(8, 12) if block.verge else rng.uniform(12, 22)
        for s in np.arange(6.0, length - 6.0, gap) + rng.uniform(-1, 1):
            if rng.random() < 0.85:
                parts.append(_stand(site, pick(site.greens.trees, rng), *(start + along * s), rng.uniform(0, 6.28)))
        for s in np.arange(rng.uniform(8, 14), length - 4, 24.0):
            parts.append(_stand(site, pick(site.street.lamps, rng), *(start + along * (s + 2.9)), yaw + np.pi))
            parts.append(_stand(site, pick(site.street.signs, rng), *(start + along * (s - 2.2)), yaw))
            if rng.random() < 0.6:
                parts.append(_stand(site, pick(site.street.bins, rng), *(start + along * (s + 4.6))))
    return parts


def _scatter(site: Site, rect: Rect, count: int, rng: np.random.Generator, plants: tuple[Mesh, ...]) -> list[Mesh]:
    spots = rng.uniform(rect[:2], rect[2:], (count, 2))
    return [_stand(site, pick(plants, rng), *spot, rng.uniform(0, 6.28)) for spot in spots]


def block_inside(site: Site, block: Block, rect: Rect, rng: np.random.Generator) -> list[Mesh]:
    """Houses, or a park's trees, or a plaza's planters and kiosk."""
    if block.kind == "buildings":
        parts = [rows(rect, site.hills, site.palette, rng)]
        if block.setback == "grass":
            parts += setback_greens(site, rect, rng)
        return parts
    area = (rect[2] - rect[0]) * (rect[3] - rect[1])
    count = int(area / (110 if block.kind == "park" else 420))
    parts = _scatter(site, inside(rect, 2.0), count, rng, site.greens.trees)
    parts += _scatter(site, inside(rect, 1.0), count // 2, rng, site.greens.bushes)
    if block.kind == "plaza":
        x, y = (rect[0] + rect[2]) / 2, (rect[1] + rect[3]) / 2
        kiosk = box(about(0, 0, 5, 4), -0.2, 3.2, Look("shopfront", tuple(rng.uniform(0.3, 0.9, 3))), Look("roof"))
        parts.append(_stand(site, labelled(kiosk, raw("static.manmade")), x, y))
    return parts


def setback_greens(site: Site, rect: Rect, rng: np.random.Generator) -> list[Mesh]:
    """Hedges and fences in front gardens."""
    parts = []
    for start, along, length, yaw in _edges(inside(rect, -SETBACK_M + 0.5)):
        for s in np.arange(2.0, length - 10.0, 11.0):
            span = float(rng.uniform(4, 9))
            kind = str(rng.choice(["hedge", "fence", "bush", "gap"], p=[0.35, 0.3, 0.2, 0.15]))
            if kind == "gap":
                continue
            if kind == "hedge":
                mesh = hedge(span, site.greens, rng)
            else:
                mesh = furniture.fence(span, rng) if kind == "fence" else pick(site.greens.bushes, rng)
            parts.append(_stand(site, mesh, *(start + along * s), yaw))
    return parts


def build_town(site: Site) -> Mesh:
    """The whole town; the same site gives the same triangles."""
    rng = numpy_rng(site.seed, "crossings")
    parts = crossings(site, rng)
    for i, road in enumerate(site.plan.roads):
        parts += road_ground(site, road, numpy_rng(site.seed, "road", i))
    for i, block in enumerate(site.plan.blocks):
        rng = numpy_rng(site.seed, "block", i)
        ground, rect = block_ground(site, block, rng)
        parts += [*ground, *block_furniture(site, block, rng), *block_inside(site, block, rect, rng)]
    return merge(parts)
