"""Which scans are shown with which predictions, and their error maps."""

from collections.abc import Mapping, Sequence

from lima_core.stores.predictions import Predictions
from lima_core.types import Frame
from lima_core.viz.choose import predicted_frames
from lima_core.viz.errors import SIZE_PX, Scan, errors_sheet
from lima_core.viz.sheet import Sheet
from lima_core.viz.shown import ShownFrame, Sources
from lima_core.viz.trainings import Training

COUNT = 3


def open_predictions(pair: Sequence[Training]) -> dict[str, Predictions]:
    """By where the training started from, a random start first."""
    ordered = sorted(pair, key=lambda training: training.facts["init"] != "random")
    return {training.start: Predictions.open(training.path / "predictions") for training in ordered}


def error_maps(
    sources: Sources, pair: Sequence[Training], token: str | None = None, scene: str | None = None, count: int = COUNT
) -> tuple[Sheet, tuple[Frame, ...]] | None:
    """The figure and the frames in it; None where no labelled scan is predicted.

    Args:
        sources: index and data set.
        pair: trainings that differ in their start only; one will do.
        token: of the only scan; None: several.
        scene: from which they are taken; None: from as many validation scenes as there are rows.
        count: rows at most.

    Raises:
        ConfigError: a frame or scene without predictions.
    """
    runs = open_predictions(pair)
    first = next(iter(runs.values()))
    frames = [frame for frame in predicted_frames(token, scene, sources.index, first, count) if frame.labels]
    if not frames:
        return None
    scans = [_scan(ShownFrame(sources, frame), runs) for frame in frames]
    facts = pair[0].facts
    subtitle = f"{sources.data} \N{MIDDLE DOT} {pair[0].title}, seed {facts['seed']} \N{MIDDLE DOT} validation split\n"
    subtitle += f"tokens, from top to bottom: {', '.join(frame.token for frame in frames)}"
    return errors_sheet(scans, first.classes, subtitle), tuple(frames)


def _scan(shown: ShownFrame, runs: Mapping[str, Predictions]) -> Scan:
    frame = shown.frame
    predicted = {name: run.read(frame.token) for name, run in runs.items()}
    name = f"{frame.scene}, key frame {frame.index}"
    return Scan(name, shown.points, shown.labels, predicted, shown.view(SIZE_PX))
