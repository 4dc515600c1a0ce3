import numpy as np
import torch

from lima_core.viz import similarity
from lima_core.viz.queries import Query
from lima_core.viz.sheet import draw_sheet
from lima_core.viz.shown import ShownFrame


def upsampled(patches: np.ndarray, patch_px: int) -> np.ndarray:
    """(h * p, w * p, C) features of every pixel of the teacher's input, by torch's own interpolation."""
    table = torch.nn.functional.normalize(torch.from_numpy(patches), dim=2).permute(2, 0, 1)[None]
    size = [patch_px * n for n in patches.shape[:2]]
    dense = torch.nn.functional.interpolate(table, size, mode="bilinear", align_corners=True)
    return torch.nn.functional.normalize(dense[0], dim=0).permute(1, 2, 0).numpy()


def test_the_query_pixel_has_similarity_one_and_is_the_maximum() -> None:
    patches = np.random.default_rng(0).normal(size=(4, 6, 16)).astype(np.float32)
    for query in ((0, 0), (59, 39), (17, 8), (30, 30)):
        cosines = similarity.patch_cosines(patches, query, (60, 40), 14)
        assert cosines.shape == (40, 60)
        assert abs(cosines[query[1], query[0]] - 1) < 1e-5 and cosines.max() < 1 + 1e-5
        assert np.unravel_index(cosines.argmax(), cosines.shape) == (query[1], query[0])
        assert cosines.min() >= -1 - 1e-5


def test_pixels_are_read_as_the_upsampled_map_is() -> None:
    patches, patch_px = np.random.default_rng(1).normal(size=(3, 5, 8)).astype(np.float32), 8
    dense = upsampled(patches, patch_px)
    cosines = similarity.patch_cosines(patches, (12, 7), (40, 24), patch_px)
    np.testing.assert_allclose(cosines, dense @ dense[7, 12], atol=1e-5)


def test_point_cosines_against_the_formula() -> None:
    features = np.random.default_rng(2).normal(size=(50, 7)).astype(np.float32) * 9
    known = np.arange(50) % 3 > 0
    cosines = similarity.point_cosines(features, 4, known)
    wanted = [f @ features[4] / np.linalg.norm(f) / np.linalg.norm(features[4]) for f in features[known]]
    np.testing.assert_allclose(cosines[known], wanted, rtol=1e-5, atol=1e-6)
    assert np.isnan(cosines[~known]).all()
    assert np.nanargmax(cosines) == 4 and np.isclose(cosines[4], 1)


def test_one_scale_for_a_row_from_a_low_quantile_to_one() -> None:
    values = [np.linspace(0.33, 0.9, 500), np.array([-0.5, 1.0, np.nan])]
    bar = similarity.scale(values)
    assert (bar.low, bar.high, bar.clipped) == (0.3, 1.0, True)
    rgb = similarity.cosine_colours(np.array([-0.5, 0.3, 1.0]), bar)
    assert rgb[0].tolist() == rgb[1].tolist() != rgb[2].tolist()
    assert similarity.scale([np.ones(3)]).low == 0.95
    assert not similarity.scale([np.array([0.0, 1.0])]).clipped


def test_columns_and_rows_of_the_figure(shown: ShownFrame) -> None:
    queries = similarity.find_queries(shown)
    assert queries and all(shown.projection.visible[query.camera, query.point] for query in queries)
    assert (shown.bank.point_target[[query.point for query in queries]] >= 0).all()
    sheet = similarity.similarity_sheet(shown, queries)
    assert [row.label.partition("\n")[0] for row in sheet.rows] == ["Image", "Teacher", "Bank", "Student"]
    assert all(len(row.panels) == len(queries) == len(sheet.heads) for row in sheet.rows)
    assert [row.bar is None for row in sheet.rows] == [True, False, False, False]
    assert "filterbank (fixed filters, not a learned network" in sheet.subtitle


def test_all_three_compare_with_the_query_itself(shown: ShownFrame) -> None:
    query = similarity.find_queries(shown)[0]
    image = similarity.smaller(shown.images[query.camera], similarity.WIDTH_PX)
    mark = similarity.query_pixel(shown, query, image.size)
    found = similarity.all_cosines(shown, [query], [image], [mark])
    assert np.isclose(found.teacher[0][mark[1], mark[0]], 1, atol=1e-5)
    assert np.isclose(found.bank[0][query.point], 1) and np.isclose(found.student[0][query.point], 1)
    assert (np.isnan(found.bank[0]) == (shown.bank.point_target < 0)).all()
    assert np.nanmax(np.abs(found.bank[0])) < 1 + 1e-9 > np.abs(found.student[0]).max()


def test_the_mark_is_where_the_query_is_in_the_image(shown: ShownFrame) -> None:
    camera = shown.ahead
    point = int(np.flatnonzero(shown.projection.visible[camera])[0])
    size = (2 * shown.frame.cameras[camera].width_px, 2 * shown.frame.cameras[camera].height_px)
    mark = similarity.query_pixel(shown, Query("x", camera, point), size)
    np.testing.assert_allclose(mark, 2 * shown.projection.uv_px[camera, point] + 0.5, atol=0.51)


def test_same_frame_same_picture_and_synthetic_data_are_called_so(shown: ShownFrame, synthetic: ShownFrame) -> None:
    first, second = (
        similarity.similarity_sheet(frame, similarity.find_queries(frame))
        for frame in (shown, ShownFrame(shown.sources, shown.frame))
    )
    assert draw_sheet(first).tobytes() == draw_sheet(second).tobytes()
    assert "synthetic" not in first.subtitle
    assert "synthetic data" in similarity.similarity_sheet(synthetic, similarity.find_queries(synthetic)).subtitle
