from pathlib import Path

import numpy as np
import pytest

from lima_core.errors import ConfigError
from lima_core.stores.predictions import Predictions
from lima_core.viz import palette, recording
from lima_core.viz.recording import Recording
from lima_core.viz.shown import ShownFrame, Sources

NAMES = ["intensity", "bank_youngest_age", "bank_targets", "truth", "predicted_LiMA", "errors_LiMA"]


@pytest.fixture
def predictions(sources: Sources, tmp_path: Path) -> Predictions:
    """Of all frames of scene a; always the first class."""
    out = Predictions.create(tmp_path / "predictions", "val", sources.index.facts.classes, False)
    for frame in sources.index.frames("a"):
        out.write(frame.token, np.zeros(len(sources.dataset.load_points(frame)), np.uint8))
    return out


def test_a_recording_can_be_read_back(sources: Sources, predictions: Predictions, tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="rerun is not installed: pip install rerun-sdk==0.23.1")
    from rerun import dataframe

    out = tmp_path / "a.rrd"
    assert recording.write_recording(Recording(sources, "a", {"LiMA": predictions}), out) == tuple(NAMES)
    read = dataframe.load_recording(str(out))
    entities = {column.entity_path for column in read.schema().component_columns()}
    assert {f"/world/scan/{name}" for name in NAMES} <= entities
    assert {f"/world/cameras/{name}" for name in sources.index.facts.cameras} <= entities
    rows = read.view(index="key frame", contents="/world/scan/intensity").select().read_all()
    frames = sources.index.frames("a")
    assert rows["key frame"].to_pylist() == [frame.index for frame in frames]
    positions = next(rows[name] for name in rows.column_names if name.endswith("Position3D"))
    for found, frame in zip(positions.to_pylist(), frames, strict=True):
        np.testing.assert_array_equal(np.array(found, np.float32), sources.dataset.load_points(frame)[:, :3])


def test_a_layer_that_a_frame_lacks_does_not_stay(sources: Sources, predictions: Predictions, tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="rerun is not installed: pip install rerun-sdk==0.23.1")
    from rerun import dataframe

    frames = sources.index.frames("a")
    predictions.path(frames[-1].token).unlink()
    recording.write_recording(Recording(sources, "a", {"LiMA": predictions}), tmp_path / "a.rrd")
    read = dataframe.load_recording(str(tmp_path / "a.rrd"))
    columns = read.schema().component_columns()
    cleared = {column.entity_path for column in columns if column.component_name.endswith("ClearIsRecursive")}
    scans = {path for path in cleared if path.startswith("/world/scan")}
    assert scans == {"/world/scan/predicted_LiMA", "/world/scan/errors_LiMA"}, cleared


def test_layers_are_what_the_artifacts_give(sources: Sources, shown: ShownFrame, predictions: Predictions) -> None:
    found = dict(recording.layers(shown, {"LiMA": predictions}, shown.colours))
    assert list(found) == NAMES
    assert all(rgb.shape == (len(shown.points), 3) and rgb.dtype == np.uint8 for rgb in found.values())
    bare = ShownFrame(Sources(sources.index, sources.dataset), shown.frame)
    assert [name for name, _ in recording.layers(bare, {}, None)] == ["intensity", "truth"]


def test_ages_grow_darker_and_what_is_not_taught_is_grey() -> None:
    rgb = recording.age_colours(np.array([0, 1, 5, -1]), 6).astype(int)
    assert (np.diff(rgb[:3].sum(axis=1)) < 0).all() and tuple(rgb[3]) == palette.NOT_TAUGHT


def test_intrinsics_of_a_smaller_image_see_the_same(shown: ShownFrame) -> None:
    camera = shown.frame.cameras[shown.ahead]
    scaled = recording.scaled_intrinsics(camera, 0.5, 0.25)
    ray = np.array([0.3, -0.2, 1.0])
    u, v, _ = camera.intrinsics @ ray
    np.testing.assert_allclose((scaled @ ray)[:2], [(u + 0.5) * 0.5 - 0.5, (v + 0.5) * 0.25 - 0.5])


def test_without_rerun_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^the package rerun is not installed; pip install rerun-sdk==0\.23\.1$"):
        recording.require_rerun()
