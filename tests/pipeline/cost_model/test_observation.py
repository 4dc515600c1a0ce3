import json
from types import SimpleNamespace

import pytest

from lima_core.cost import Cost, Scale, SceneScale, longest
from lima_core.types import Resources
from pipeline.cost_model.observation import Observation, line, predict
from stages import build_memory, finetune, synth


def scale(*lengths: int) -> Scale:
    return Scale(tuple(SceneScale(train=n) for n in lengths), num_cameras=1, num_points=100, image_size_px=(4, 6))


def test_two_observations_tell_what_is_paid_once() -> None:
    """Truth: 7 + 3 x rule."""
    assert line([2.0, 10.0], [13.0, 37.0], 1000.0) == pytest.approx(3007.0)


def test_one_observation_corrects_the_level() -> None:
    assert line([10.0], [30.0], 1000.0) == 3000.0


def test_noise_that_turns_the_line_around_is_not_extrapolated() -> None:
    assert line([2.0, 10.0], [31.0, 30.0], 1000.0) == 3000.0


def test_equal_rules_give_what_was_found() -> None:
    assert line([5.0, 5.0], [1.0, 8.0], 5.0) == 8.0


def test_without_a_rule_it_is_what_was_found() -> None:
    assert line([None], [8.0], None) == 8.0


def test_a_prediction_is_never_negative() -> None:
    assert line([9.0, 10.0], [1.0, 30.0], 0.0) == 0.0


def test_memory_is_the_measured_peak_and_what_the_rule_adds() -> None:
    stage = SimpleNamespace(estimate=lambda config, scale, resources: Cost(1, 100 * scale.num_frames, 1.0))
    seen = Observation(None, scale(3), Resources(), 1, 1.0, memory_bytes=5000)
    assert predict(stage, None, scale(10), Resources(), [seen], "x").memory_bytes == 5000 + 700
    assert predict(stage, None, scale(1), Resources(), [seen], "x").memory_bytes == 5000


def test_what_has_no_rule_grows_with_the_frames() -> None:
    stage = SimpleNamespace(estimate=lambda config, scale, resources: Cost(1, 1, 1.0) if config else Cost())
    seen = Observation("known", scale(3), Resources(), 300, 6.0, memory_bytes=7)
    assert predict(stage, None, scale(10, 20), Resources(), [seen], "x") == Cost(3000, 7, 60.0, source="x")


@pytest.mark.parametrize("stage", [synth, build_memory, finetune])
def test_an_observation_survives_json(stage: object) -> None:
    seen = Observation(stage.Config(), scale(3, 4), Resources(workers=2), 10, 1.5, 7)
    assert Observation.from_json(json.loads(json.dumps(seen.to_json())), stage) == seen


@pytest.mark.parametrize(
    ("parts", "workers", "expected"),
    [([3, 3, 3], 2, 6), ([3, 3, 3], 0, 9), ([5, 1, 1, 1], 2, 5), ([4], 8, 4), ([], 2, 0)],
)
def test_the_busiest_worker_decides(parts: list[float], workers: int, expected: float) -> None:
    assert longest(parts, workers) == expected
