import numpy as np
import pytest

from lima_core.viz.queries import Query, Seen, class_queries, empty_places, spread_queries

SIZE = (200, 100)
CLASSES = ("pole", "vegetation", "car")


def grid_of_points() -> np.ndarray:
    """(N, 2) a point every 2 pixels."""
    columns, rows = np.meshgrid(np.arange(1, 200, 2), np.arange(1, 100, 2))
    return np.stack([columns.ravel(), rows.ravel()], axis=1).astype(float)


def seen_of(uv_px: np.ndarray, usable: np.ndarray | None = None, visible: np.ndarray | None = None) -> Seen:
    num = len(uv_px)
    visible = np.ones((1, num), bool) if visible is None else visible
    return Seen(
        uv_px=np.repeat(uv_px[None], len(visible), axis=0),
        visible=visible,
        usable=np.ones(num, bool) if usable is None else usable,
        size_px=[SIZE] * len(visible),
        front=0,
    )


def test_the_query_is_in_the_middle_of_its_object() -> None:
    uv_px = grid_of_points()
    inside = np.abs(uv_px - (60, 50)).max(axis=1) <= 20
    labels = np.where(inside, 2, 1).astype(np.uint8)
    car, *_ = class_queries(labels, CLASSES, seen_of(uv_px), 4)
    assert car.name == "car" and np.abs(uv_px[car.point] - (60, 50)).max() <= 3


def test_preferred_classes_come_first_and_specks_are_not_asked() -> None:
    uv_px = grid_of_points()
    labels = np.full(len(uv_px), 1, np.uint8)
    labels[uv_px[:, 0] > 150] = 2
    labels[(np.abs(uv_px - (50, 50)) <= 1).all(axis=1)] = 0
    queries = class_queries(labels, CLASSES, seen_of(uv_px), 4)
    assert [query.name for query in queries] == ["car", "vegetation"]
    assert [query.name for query in class_queries(labels, CLASSES, seen_of(uv_px), 1)] == ["car"]


def test_only_taught_points_are_asked() -> None:
    uv_px = grid_of_points()
    usable = uv_px[:, 0] < 40
    labels = np.full(len(uv_px), 1, np.uint8)
    (query,) = class_queries(labels, CLASSES, seen_of(uv_px, usable), 4)
    assert usable[query.point]


def test_another_camera_is_taken_where_the_front_one_sees_nothing_of_a_class() -> None:
    uv_px = grid_of_points()
    labels = np.where(uv_px[:, 0] < 100, 1, 2).astype(np.uint8)
    visible = np.stack([labels == 1, np.ones(len(labels), bool)])
    queries = class_queries(labels, CLASSES, seen_of(uv_px, visible=visible), 4)
    assert [(query.name, query.camera) for query in queries] == [("car", 1), ("vegetation", 0)]


def test_the_sky_is_no_part_of_a_tree() -> None:
    uv_px = grid_of_points()
    uv_px = uv_px[uv_px[:, 1] > 50]
    labels = np.full(len(uv_px), 1, np.uint8)
    labels[uv_px[:, 1] > 80] = 2
    tree = class_queries(labels, CLASSES, seen_of(uv_px), 4)[1]
    assert 60 <= uv_px[tree.point, 1] <= 70


def test_empty_places_are_cells_without_a_point() -> None:
    uv_px = grid_of_points()
    assert len(empty_places(uv_px, SIZE)) == 0
    found = empty_places(uv_px[uv_px[:, 1] > 50], SIZE)
    assert len(found) == 20 * 5 and found[:, 1].max() == 45


def test_spread_queries_start_near_and_keep_apart() -> None:
    rng = np.random.default_rng(0)
    uv_px, xyz = rng.uniform((0, 0), SIZE, (500, 2)), rng.normal(size=(500, 3)) * 20
    queries = spread_queries(xyz, seen_of(uv_px), 4)
    assert queries[0] == Query("point 1", 0, int(np.linalg.norm(xyz, axis=1).argmin()))
    chosen = uv_px[[query.point for query in queries]]
    apart = np.linalg.norm(chosen[:, None] - chosen[None], axis=2)[~np.eye(4, dtype=bool)]
    assert apart.min() > 60
    assert queries == spread_queries(xyz, seen_of(uv_px), 4)


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_ask(count: int) -> None:
    uv_px = np.full((count, 2), 50.0)
    seen = seen_of(uv_px)
    assert class_queries(np.ones(count, np.uint8), CLASSES, seen, 4) == []
    assert len(spread_queries(np.ones((count, 3)), seen, 4)) == count
