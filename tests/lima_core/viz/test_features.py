import numpy as np

from lima_core.viz import palette
from lima_core.viz.features import by_point, features_sheet, height_colours
from lima_core.viz.sheet import draw_sheet
from lima_core.viz.shown import ShownFrame


def test_points_take_the_colour_of_their_target() -> None:
    rgb = by_point(np.array([[1, 2, 3], [4, 5, 6]], np.uint8), np.array([1, -1, 0]))
    assert rgb.tolist() == [[4, 5, 6], list(palette.NOT_TAUGHT), [1, 2, 3]]


def test_height_is_brighter_above() -> None:
    rgb = height_colours(np.array([[0, 0, -9.0], [0, 0, 0], [0, 0, 9.0]])).astype(int).sum(axis=1)
    assert rgb[0] < rgb[1] < rgb[2]


def test_input_teacher_bank_and_student_in_camera_and_from_above(shown: ShownFrame) -> None:
    sheet = features_sheet(shown)
    assert [len(row.panels) for row in sheet.rows] == [4, 4]
    taught = 100 * (shown.bank.point_target >= 0).mean()
    assert sheet.rows[1].panels[2].caption == f"3 frames, {taught:.1f} % taught"
    assert draw_sheet(sheet).tobytes() == draw_sheet(features_sheet(ShownFrame(shown.sources, shown.frame))).tobytes()


def test_the_basis_is_the_teachers(shown: ShownFrame) -> None:
    """The patches fill the range of every colour; their mean is in its middle."""
    rgb = shown.colours(shown.patches[[camera is not None for camera in shown.frame.cameras]])
    assert rgb.reshape(-1, 3).min(axis=0).tolist() == [0, 0, 0]
    assert rgb.reshape(-1, 3).max(axis=0).tolist() == [255, 255, 255]


def test_synthetic_data_are_called_so(synthetic: ShownFrame) -> None:
    assert "synthetic data" in features_sheet(synthetic).subtitle
