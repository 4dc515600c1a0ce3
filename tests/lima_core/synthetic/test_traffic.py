import numpy as np
import pytest
from shapely.affinity import rotate, translate
from shapely.geometry import Polygon
from shapely.geometry import box as rectangle

from lima_core.synthetic.traffic import FOOTPRINT_M, make_actors, make_model
from lima_core.synthetic.world import Stage


def _outlines(stage: Stage, seconds: float) -> list[Polygon]:
    out = []
    for actor in stage.actors:
        length, width, _ = actor.model.size_m
        shape = rotate(rectangle(-length / 2, -width / 2, length / 2, width / 2), actor.spot.yaw_rad, use_radians=True)
        out.append(translate(shape, *actor.spot.at(seconds).tolist()))
    x, y, yaw = stage.drive.position(seconds)
    out.append(translate(rotate(rectangle(-1.0, -0.9, 3.8, 0.9), yaw, origin=(0, 0), use_radians=True), x, y))
    return out


def test_nobody_touches_anybody_at_any_time(stage: Stage) -> None:
    assert len(stage.actors) > 15
    for seconds in (0.0, 0.6, 1.4):
        shapes = _outlines(stage, seconds)
        for i, shape in enumerate(shapes):
            assert not any(shape.intersects(other) for other in shapes[:i])


@pytest.mark.parametrize("kind", FOOTPRINT_M)
def test_models_stand_on_the_ground_inside_their_footprint(kind: str) -> None:
    for seed in range(4):
        model = make_model(kind, np.random.default_rng(seed))
        points = model.mesh.triangles.reshape(-1, 3)
        half = np.array([model.size_m[0] / 2, model.size_m[1] / 2])
        np.testing.assert_allclose(points.min(0), [*-half, 0], atol=1e-5)
        np.testing.assert_allclose(points.max(0), [*half, model.size_m[2]], atol=1e-5)
        assert model.size_m[0] <= FOOTPRINT_M[kind][0] * 1.6
        assert model.size_m[1] <= FOOTPRINT_M[kind][1] * 1.4
        assert (model.mesh.raw_class == model.raw_class).all()


def test_an_empty_street_stays_empty(stage: Stage) -> None:
    assert make_actors(stage.town.site.plan, stage.drive, 0, "scene-0061", 2.0, density=0.0) == ()


def test_same_scene_has_same_actors_and_another_scene_others(stage: Stage) -> None:
    plan = stage.town.site.plan
    a, b = (make_actors(plan, stage.drive, 0, "scene-0061", 1.5, 1.0) for _ in "ab")
    assert [x.spot for x in a] == [x.spot for x in b] == [x.spot for x in stage.actors]
    c = make_actors(plan, stage.drive, 0, "scene-0553", 1.5, 1.0)
    assert [x.spot for x in a] != [x.spot for x in c]
