"""The paper's cosine-similarity figure: one point against patches of the image, targets of the bank, student's points.

Every comparison stays within one model: the query's own patch feature, its own target, its own student feature.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from lima_core.memory.pooling import bilinear_patches
from lima_core.viz import palette
from lima_core.viz.pca import unit
from lima_core.viz.projection import grey, points_on_image, smaller
from lima_core.viz.queries import Query, Seen, class_queries, spread_queries
from lima_core.viz.scores import method_name
from lima_core.viz.sheet import Bar, Panel, Row, Sheet
from lima_core.viz.shown import ShownFrame

WIDTH_PX = 480
RADIUS_PX = 2.0
COUNT = 4
HEAT = 0.62
"""Share of the colours in a heat map; the rest is the image."""
COLOURS = "turbo"
LOWEST = 0.02
"""Quantile of a row's cosines at which its colours begin."""


def find_queries(shown: ShownFrame, count: int = COUNT) -> list[Query]:
    """By class where labels tell one that is large enough, else by position; none where no taught point is seen."""
    if shown.ahead is None:
        return []
    seen = Seen(
        uv_px=shown.projection.uv_px,
        visible=shown.projection.visible,
        usable=shown.bank.point_target >= 0,
        size_px=[(camera.width_px, camera.height_px) if camera else (1, 1) for camera in shown.frame.cameras],
        front=shown.ahead,
    )
    classes = shown.sources.index.facts.classes
    by_class = class_queries(shown.labels, classes, seen, count) if shown.labels is not None else []
    return by_class or spread_queries(shown.points[:, :3], seen, count)


@dataclass(frozen=True)
class Cosines:
    """Of everything with the queries, one array per query."""

    teacher: list[np.ndarray]
    """(H, W) float32, every pixel of the query's image."""
    bank: list[np.ndarray]
    """(N,) every point, NaN where nothing teaches it."""
    student: list[np.ndarray]
    """(N,) every point."""


def similarity_sheet(shown: ShownFrame, queries: Sequence[Query]) -> Sheet:
    """The figure: a column per query; image, teacher, bank and student in rows, each row with its own colour scale."""
    images = [smaller(shown.images[query.camera], WIDTH_PX) for query in queries]
    marks = [query_pixel(shown, query, image.size) for query, image in zip(queries, images, strict=True)]
    cosines = all_cosines(shown, queries, images, marks)
    heat_bar = scale(cosines.teacher)
    heat = [heat_map(image, values, heat_bar) for image, values in zip(images, cosines.teacher, strict=True)]
    rows = [
        Row(_marked(images, marks, [_place(shown, query) for query in queries]), "Image"),
        Row(_marked(heat, marks), "Teacher\npatches (2D)", heat_bar),
        _point_row(shown, queries, marks, cosines.bank, "Bank\ntargets (3D)"),
        _point_row(shown, queries, marks, cosines.student, "Student\npoints (3D)"),
    ]
    return Sheet(
        title="Cosine similarity to the query point",
        subtitle=f"{shown.named}\nteacher: {shown.sources.store.facts.teacher}",
        heads=[query.name.replace("_", " ") for query in queries],
        rows=rows,
        notes=(
            "Ring: the query. Each row compares within one model and has one colour scale for all its panels, from the "
            f"{100 * LOWEST:.0f}nd percentile of its cosines to 1.",
            f"Bank: pooled over {shown.sources.window} key frames, taught points only. "
            f"Student: {method_name(shown.sources.student.method)}, its head after one pass over this scan; "
            "it sees no image.",
        ),
    )


def all_cosines(
    shown: ShownFrame, queries: Sequence[Query], images: Sequence[Image.Image], marks: Sequence[tuple[int, int]]
) -> Cosines:
    """Each query against its image's pixels, all targets and all points of the student."""
    bank, targets = shown.targets()
    taught, patch_px = bank.point_target >= 0, shown.sources.store.facts.patch_px
    return Cosines(
        teacher=[
            patch_cosines(shown.patches[query.camera], mark, image.size, patch_px)
            for query, mark, image in zip(queries, marks, images, strict=True)
        ],
        bank=[point_cosines(targets[bank.point_target], query.point, taught) for query in queries],
        student=[point_cosines(shown.student, query.point) for query in queries],
    )


def _point_row(
    shown: ShownFrame,
    queries: Sequence[Query],
    marks: Sequence[tuple[int, int]],
    cosines: Sequence[np.ndarray],
    label: str,
) -> Row:
    pairs = list(zip(queries, cosines, strict=True))
    bar = scale([values[shown.projection.visible[query.camera]] for query, values in pairs])
    return Row(_marked([point_map(shown, query.camera, values, bar) for query, values in pairs], marks), label, bar)


def _place(shown: ShownFrame, query: Query) -> str:
    distance_m = float(np.linalg.norm(shown.points[query.point, :3]))
    return f"{shown.cameras[query.camera]}, {distance_m:.0f} m away"


def _marked(
    pictures: Sequence[Image.Image], marks: Sequence[tuple[int, int]], captions: Sequence[str] = ()
) -> list[Panel]:
    words = captions or [""] * len(pictures)
    return [Panel(picture, caption, mark) for picture, caption, mark in zip(pictures, words, marks, strict=True)]


def query_pixel(shown: ShownFrame, query: Query, size_px: tuple[int, int]) -> tuple[int, int]:
    """Column and row of the query in its camera's image at that size."""
    camera = shown.frame.cameras[query.camera]
    scale_xy = np.array(size_px) / (camera.width_px, camera.height_px)
    pixel = np.rint((shown.projection.uv_px[query.camera, query.point] + 0.5) * scale_xy - 0.5)
    column, row = np.clip(pixel, 0, np.array(size_px) - 1).astype(int)
    return int(column), int(row)


def patch_cosines(
    patches: np.ndarray, query_px: tuple[int, int], size_px: tuple[int, int], patch_px: int
) -> np.ndarray:
    """(H, W) float32 cosines of every pixel's feature and the query pixel's, read from the patches as the bank does.

    Args:
        patches: (h, w, C) float32.
        query_px: column and row in the picture.
        size_px: width and height of the picture.
        patch_px: patch size at the teacher's input.
    """
    grid, (width, height) = patches.shape[:2], size_px
    table = functional.normalize(torch.from_numpy(patches).reshape(-1, patches.shape[2]), dim=1)

    def read(row: int, columns: torch.Tensor) -> torch.Tensor:
        u, v = (columns + 0.5) / width, torch.full((len(columns),), (row + 0.5) / height)
        rows, weights = bilinear_patches(u, v, grid, patch_px)
        features = functional.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)
        return functional.normalize(features, dim=1)

    query = read(query_px[1], torch.tensor([float(query_px[0])]))[0]
    columns = torch.arange(width, dtype=torch.float32)
    return np.stack([(read(row, columns) @ query).numpy() for row in range(height)])


def point_cosines(features: np.ndarray, query: int, known: np.ndarray | None = None) -> np.ndarray:
    """(N,) cosines of (N, C) features with that of one point; NaN where ``known`` (N,) is False."""
    rows = unit(features)
    cosines = rows @ rows[query]
    return cosines if known is None else np.where(known, cosines, np.nan)


def scale(values: Sequence[np.ndarray]) -> Bar:
    """One range for all panels of a row: from a low quantile, rounded down to a twentieth, to 1."""
    joined = np.concatenate([cosines[~np.isnan(cosines)] for cosines in values])
    low = float(np.floor(np.quantile(joined, LOWEST) * 20) / 20) if len(joined) else 0.0
    low = min(low, 0.95)
    return Bar(low, 1.0, "cosine", COLOURS, clipped=bool((joined < low).any()))


def cosine_colours(cosines: np.ndarray, bar: Bar) -> np.ndarray:
    """(..., 3) uint8."""
    return palette.mapped(np.clip((cosines - bar.low) / (bar.high - bar.low), 0, 1), bar.colours)


def heat_map(image: Image.Image, cosines: np.ndarray, bar: Bar) -> Image.Image:
    """The image under the colours of (H, W) cosines."""
    mixed = HEAT * cosine_colours(cosines, bar) + (1 - HEAT) * grey(np.asarray(image))
    return Image.fromarray(mixed.astype(np.uint8))


def point_map(shown: ShownFrame, camera: int, cosines: np.ndarray, bar: Bar) -> Image.Image:
    """The image of a camera with its points coloured by their cosines; points without one are left out."""
    seen = shown.projection.visible[camera] & ~np.isnan(cosines)
    return points_on_image(
        shown.images[camera], shown.projection.uv_px[camera, seen], cosine_colours(cosines[seen], bar),
        shown.projection.depth_m[camera, seen], WIDTH_PX, RADIUS_PX,
    )  # fmt: skip
