from pathlib import Path
from types import SimpleNamespace

import pytest

from lima_core.cost import Cost, Scale
from lima_core.types import Resources
from pipeline.estimate import estimates, plan_text, total
from pipeline.planning import plan
from pipeline.runner import run

SCALE = Scale(num_scenes=2, num_frames=20, num_cameras=6, num_points=1000, image_size_px=(90, 160))


@pytest.fixture
def estimating(toys: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The first toy says how much data it makes, the second what it costs per frame."""

    def estimate(config: object, scale: Scale) -> Cost:
        return Cost(disk_bytes=1000 * scale.num_frames, memory_bytes=10, seconds=100.0)

    monkeypatch.setattr(toys.make, "scale", lambda config: SCALE, raising=False)
    monkeypatch.setattr(toys.add, "estimate", estimate, raising=False)
    return toys


def test_a_stage_is_asked_with_the_scale_of_the_data(tmp_path: Path, estimating: SimpleNamespace) -> None:
    steps = plan([estimating.total(estimating.numbers())], tmp_path)
    assert estimates(steps, tmp_path) == [None, Cost(20000, 10, 100.0)]


def test_what_it_took_before_is_better_than_a_guess(tmp_path: Path, estimating: SimpleNamespace) -> None:
    run([estimating.total(estimating.numbers())], tmp_path, Resources())
    steps = plan([estimating.total(estimating.numbers(), start=1.0)], tmp_path)
    cached, cost = estimates(steps, tmp_path)
    assert cached is None
    assert cost.disk_bytes == 20000
    assert cost.seconds < 100.0


def test_without_a_scale_the_plan_says_after_index(tmp_path: Path, toys: SimpleNamespace) -> None:
    steps = plan([toys.numbers()], tmp_path)
    text = plan_text(steps, estimates(steps, tmp_path), tmp_path)
    assert "build  after index" in text.splitlines()[1]
    assert text.endswith("; 1 of them not counted, their cost is not known yet")


def test_a_total_sums_disk_and_time_and_takes_the_largest_memory() -> None:
    assert total([Cost(1, 5, 1.0), None, Cost(2, 3, None)]) == Cost(3, 5, 1.0)
