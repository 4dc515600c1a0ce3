import re

import numpy as np
import pytest

from lima_core.memory.quality import Quality
from lima_core.viz import coverage
from lima_core.viz.shown import ShownFrame


@pytest.mark.parametrize(
    ("frames", "wanted"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 3, 6]), (8, [1, 2, 3, 6, 8]), (24, [1, 2, 3, 6, 12, 24])]
)
def test_windows_end_with_the_banks_own(frames: int, wanted: list[int]) -> None:
    assert coverage.windows(frames) == wanted


def test_shares_under_the_pictures_are_the_banks(shown: ShownFrame) -> None:
    panels = [panel for row in coverage.coverage_sheet(shown).rows for panel in row.panels]
    assert [panel.head for panel in panels] == ["1 key frame", "2 key frames", "3 key frames"]
    covered = []
    for window, panel in zip((1, 2, 3), panels, strict=True):
        now, past, both = map(float, re.findall(r"([\d.]+) %", panel.caption))
        bank = shown.sources.bank.frame(shown.frame.scene, shown.frame.index, window)
        covered.append((bank.point_target >= 0).mean())
        assert both == pytest.approx(100 * covered[-1], abs=0.051)
        assert now == pytest.approx(100 * covered[0], abs=0.051)
        assert past == pytest.approx(100 * (covered[-1] - covered[0]), abs=0.051)
    assert covered[0] < covered[2]


def test_the_banks_own_quality_says_the_same(shown: ShownFrame) -> None:
    """Over all frames of the scene, against what build-memory measured while it built."""
    bank, scene = shown.sources.bank, shown.frame.scene
    banks = [bank.frame(scene, frame.index) for frame in shown.sources.index.frames(scene)]
    points = np.array([len(frame.point_target) for frame in banks])
    for row in Quality.from_json(bank.attributes()[bank.scenes().index(scene)]["quality"]).by_window():
        shares = [1 - coverage.shares(frame.within(row["frames"]))[2] for frame in banks]
        assert np.average(shares, weights=points) == pytest.approx(row["coverage"])


def test_the_view_holds_the_gaps(shown: ShownFrame) -> None:
    view = coverage.view_of_gaps(shown)
    gaps = shown.points[shown.bank.within(1).point_target < 0]
    assert len(gaps) and (np.abs(gaps[:, :2]).max(axis=1) <= view.radius_m).mean() >= min(
        coverage.SHARE, (np.abs(gaps[:, :2]).max(axis=1) <= coverage.MOST_M).mean()
    )


def test_synthetic_data_are_called_so(shown: ShownFrame, synthetic: ShownFrame) -> None:
    assert "synthetic" not in coverage.coverage_sheet(shown).subtitle
    assert "synthetic data" in coverage.coverage_sheet(synthetic).subtitle
