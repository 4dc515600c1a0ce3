"""What a longer window adds: which points are taught, from above, by windows from one frame to the bank's own."""

import numpy as np

from lima_core.stores.memory_bank import FrameBank
from lima_core.viz import palette
from lima_core.viz.bev import View, draw_bev
from lima_core.viz.choose import forward_of
from lima_core.viz.sheet import Panel, Row, Sheet
from lima_core.viz.shown import ShownFrame
from lima_core.viz.taught import taught_points

SIZE_PX = 480
COLUMNS = 4
STEPS = (1, 2, 3, 6, 12, 24, 48)
RADIUS_PX = 1.5
SHARE, LEAST_M, MOST_M, STEP_M = 0.95, 10.0, 60.0, 5.0
"""The pictures hold this share of the points that the current frame does not teach, within limits."""


def windows(frames: int) -> list[int]:
    """Those of ``STEPS`` below the bank's window, and that window itself."""
    return [*(step for step in STEPS if step < frames), frames]


def shares(bank: FrameBank) -> tuple[float, float, float]:
    """Of all points: taught by the current frame, only by earlier ones, not at all."""
    age = taught_points(bank).youngest_age
    now, past = float((age == 0).mean()), float((age > 0).mean())
    return now, past, 1 - now - past


def coverage_sheet(shown: ShownFrame) -> Sheet:
    """The figure: a picture per window, with its shares beneath."""
    view = view_of_gaps(shown)
    panels = []
    for window in windows(shown.sources.bank.frames):
        bank = shown.bank.within(window)
        rgb = palette.source_colours(taught_points(bank).youngest_age)
        name = f"{window} key frame{'s' if window > 1 else ''}"
        panels.append(Panel(draw_bev(shown.points, rgb, view, RADIUS_PX), caption(bank), head=name))
    columns = COLUMNS if len(panels) > COLUMNS + 1 else len(panels)
    return Sheet(
        title="Points taught by the memory bank, by its window",
        subtitle=f"{shown.named}\n{len(shown.points)} points; voxels of {shown.sources.bank.voxel_size_m:g} m; "
        f"{min(shown.frame.index + 1, shown.sources.bank.frames)} key frames can teach this one",
        rows=[Row(panels[start : start + columns]) for start in range(0, len(panels), columns)],
        legends=[
            [
                (palette.css(palette.TAUGHT_NOW), "taught by the current frame"),
                (palette.css(palette.TAUGHT_BY_PAST), "only by earlier frames"),
                (palette.css(palette.NOT_TAUGHT), "not taught"),
            ]
        ],
        notes=(
            f"From above, where the current frame leaves gaps: {view.words}.",
            "Shares are of all points of the scan, also those outside the pictures.",
        ),
    )


def view_of_gaps(shown: ShownFrame) -> View:
    """A view that holds most points that the current frame alone does not teach."""
    gaps = shown.points[shown.bank.within(1).point_target < 0, :2]
    reach_m = float(np.quantile(np.abs(gaps).max(axis=1), SHARE)) if len(gaps) else MOST_M
    radius_m = float(np.clip(STEP_M * np.ceil(reach_m / STEP_M), LEAST_M, MOST_M))
    return View(radius_m, SIZE_PX, forward_of(shown.frame), ring_m=5.0 if radius_m <= 20 else 10.0)


def caption(bank: FrameBank) -> str:
    """``now 61.2 % + past 12.0 % = 73.2 %``."""
    now, past, none = (100 * share for share in shares(bank))
    return f"now {now:.1f} % + past {past:.1f} % = {100 - none:.1f} %"
