"""A scene as a recording for the rerun viewer: images, points in several colourings, and poses, over time.

rerun is optional (extra ``viz``); it is imported when a recording is written. Poses are relative to
the scene's first scan, for the viewer has float32. A distorted camera is shown as a pinhole: its frustum is not exact.
"""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lima_core.errors import ConfigError
from lima_core.geometry import se3
from lima_core.stores.predictions import Predictions
from lima_core.types import Camera, Frame
from lima_core.viz import palette
from lima_core.viz.features import by_point
from lima_core.viz.pca import PcaColours
from lima_core.viz.projection import smaller
from lima_core.viz.shown import ShownFrame, Sources
from lima_core.viz.taught import taught_points

if TYPE_CHECKING:
    import rerun

PACKAGE = "rerun-sdk==0.23.1"
APPLICATION = "lima"
IMAGE_PX, JPEG_QUALITY = 640, 80
POINT_RADIUS_M = 0.05
MOST_POINTS = 50_000
"""Of a larger scan every second, third, ... point is recorded: every colouring holds its positions again."""


@dataclass(frozen=True)
class Recording:
    """What is recorded of one scene."""

    sources: Sources
    scene: str
    predictions: Mapping[str, Predictions]
    """By where the training started from; a frame without a prediction lacks these layers."""


def require_rerun() -> None:
    """Raises a ConfigError that says how to install rerun, if it is not there."""
    if importlib.util.find_spec("rerun") is None:
        raise ConfigError("the package rerun is not installed", remedy=f"pip install {PACKAGE}")


def write_recording(recording: Recording, out: Path) -> tuple[str, ...]:
    """Writes the .rrd file and returns the names of the colourings in it.

    Raises:
        ConfigError: rerun is not installed.
        StoreError: there is no such scene.
    """
    require_rerun()
    import rerun

    frames = recording.sources.index.frames(recording.scene)
    stream = rerun.RecordingStream(APPLICATION, recording_id=f"{recording.sources.index.facts.name}-{recording.scene}")
    stream.save(out)
    stream.log("world", rerun.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    stream.log("about", rerun.TextDocument(_about(recording)), static=True)
    colours, names = _scene_colours(recording.sources, frames), {}
    for frame in frames:
        stream.set_time("key frame", sequence=frame.index)
        stream.set_time("time", duration=(frame.timestamp_us - frames[0].timestamp_us) * 1e-6)
        shown = ShownFrame(recording.sources, frame)
        _log_cameras(stream, shown, frames[0])
        present = dict.fromkeys(_log_points(stream, shown, recording, colours, frames[0]))
        for absent in names.keys() - present.keys():
            # The viewer shows the latest of every path, which would be the points of an earlier frame.
            stream.log(f"world/scan/{absent}", rerun.Clear(recursive=False))
        names |= present
    stream.send_blueprint(_blueprint(tuple(names), recording.sources.index.facts.cameras))
    stream.disconnect()
    return tuple(names)


def _about(recording: Recording) -> str:
    """What the recording is; synthetic data are called so."""
    sources = recording.sources
    teacher = f"; teacher: {sources.store.facts.teacher}" if sources.store else ""
    return f"{sources.data}, scene {recording.scene}{teacher}. Scans above {MOST_POINTS} points are thinned evenly."


def _scene_colours(sources: Sources, frames: Sequence[Frame]) -> PcaColours | None:
    """One set of colours for the scene, fitted to its middle frame's patches."""
    middle = ShownFrame(sources, frames[len(frames) // 2])
    return middle.colours if middle.has_features else None


def _log_cameras(stream: "rerun.RecordingStream", shown: ShownFrame, first: Frame) -> None:
    import rerun

    for name, camera, image in zip(shown.cameras, shown.frame.cameras, shown.images, strict=True):
        path = f"world/cameras/{name}"
        if camera is None:
            stream.log(path, rerun.Clear(recursive=True))
            continue
        picture = np.asarray(smaller(image, IMAGE_PX))
        height, width = picture.shape[:2]
        intrinsics = scaled_intrinsics(camera, width / camera.width_px, height / camera.height_px)
        stream.log(path, _pose(se3.invert(first.global_from_lidar) @ camera.global_from_camera))
        stream.log(path, rerun.Pinhole(image_from_camera=intrinsics, resolution=[width, height]))
        stream.log(path, rerun.Image(picture).compress(jpeg_quality=JPEG_QUALITY))


def scaled_intrinsics(camera: Camera, scale_x: float, scale_y: float) -> np.ndarray:
    """(3, 3) float64 of the image at another size; pixel centres lie at whole numbers before and after."""
    scale = np.diag([scale_x, scale_y, 1.0])
    scale[0, 2], scale[1, 2] = (scale_x - 1) / 2, (scale_y - 1) / 2
    return scale @ camera.intrinsics


def _pose(first_from_sensor: np.ndarray) -> "rerun.Transform3D":
    import rerun

    return rerun.Transform3D(translation=first_from_sensor[:3, 3], mat3x3=first_from_sensor[:3, :3])


def _log_points(
    stream: "rerun.RecordingStream",
    shown: ShownFrame,
    recording: Recording,
    colours: PcaColours | None,
    first: Frame,
) -> Iterator[str]:
    import rerun

    stream.log("world/scan", _pose(se3.invert(first.global_from_lidar) @ shown.frame.global_from_lidar))
    kept = slice(None, None, -(-len(shown.points) // MOST_POINTS))
    for name, rgb in layers(shown, recording.predictions, colours):
        points = rerun.Points3D(shown.points[kept, :3], colors=rgb[kept], radii=POINT_RADIUS_M)
        stream.log(f"world/scan/{name}", points)
        yield name


def layers(
    shown: ShownFrame, predictions: Mapping[str, Predictions], colours: PcaColours | None
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and (N, 3) uint8 colours of every colouring that the frame's artifacts give."""
    sources, token = shown.sources, shown.frame.token
    classes = sources.index.facts.classes
    bright = shown.points[:, 3] / max(sources.index.facts.intensity_max, 1e-9)
    yield "intensity", palette.mapped(np.sqrt(np.clip(bright, 0, 1)), "viridis")
    if sources.bank is not None and shown.frame.scene in sources.bank.scenes():
        youngest = taught_points(shown.bank).youngest_age
        yield "bank_youngest_age", age_colours(youngest, sources.bank.frames)
        if colours is not None and shown.has_features:
            bank, targets = shown.targets()
            yield "bank_targets", by_point(colours(targets), bank.point_target)
    if shown.labels is not None:
        yield "truth", palette.label_colours(shown.labels, classes)
    for name, run in predictions.items():
        if token in run:
            ids = run.read(token)
            yield f"predicted_{name}", palette.label_colours(ids, classes)
            if shown.labels is not None:
                yield f"errors_{name}", palette.error_colours(ids, shown.labels)


def age_colours(youngest_age: np.ndarray, window: int) -> np.ndarray:
    """(N, 3) uint8 of (N,) ages: bright for the current frame to dark for the oldest, grey for -1, not taught."""
    rgb = palette.mapped(1.0 - np.clip(youngest_age, 0, None) / max(window, 1), "plasma")
    rgb[youngest_age < 0] = palette.NOT_TAUGHT
    return rgb


def _blueprint(names: Sequence[str], cameras: Sequence[str]) -> "rerun.blueprint.Blueprint":
    import rerun.blueprint as rrb

    rig = ["world/scan", *(f"world/cameras/{name}" for name in cameras)]
    clouds = [rrb.Spatial3DView(name=name, origin="world", contents=[f"world/scan/{name}", *rig]) for name in names]
    images = [rrb.Spatial2DView(name=name, origin=f"world/cameras/{name}", contents="$origin/**") for name in cameras]
    views = rrb.Horizontal(rrb.Tabs(*clouds), rrb.Grid(*images), column_shares=[3, 2]) if images else rrb.Tabs(*clouds)
    return rrb.Blueprint(rrb.Vertical(views, rrb.TextDocumentView(origin="about"), row_shares=[12, 1]))
