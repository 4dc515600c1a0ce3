"""The figures by name: from opened artifacts and a wish for a frame or scene to a sheet that can be drawn."""

from collections.abc import Callable, Sequence

from lima_core.errors import ConfigError
from lima_core.viz.choose import taught_frame
from lima_core.viz.coverage import coverage_sheet
from lima_core.viz.features import features_sheet
from lima_core.viz.predicted import error_maps
from lima_core.viz.sheet import Sheet
from lima_core.viz.shown import ShownFrame, Sources
from lima_core.viz.similarity import find_queries, similarity_sheet
from lima_core.viz.trainings import Training, shown_pair


def figure(
    kind: str, sources: Sources, trainings: Sequence[Training], token: str | None, scene: str | None
) -> tuple[Sheet, str]:
    """The figure, and what it shows: the token of its (first) frame.

    Args:
        kind: ``similarity``, ``features``, ``coverage`` or ``errors``.
        sources: with all that the figure reads.
        trainings: for ``errors``.
        token: of the frame; None: one is chosen.
        scene: in which it is chosen; None: the first that fits.

    Raises:
        ConfigError: no such frame or scene, or one that the figure cannot be made of.
    """
    if kind == "errors":
        found = error_maps(sources, shown_pair(trainings), token, scene)
        if found is None:
            raise ConfigError("no labelled scan has a prediction", where="lima viz errors")
        return found[0], found[1][0].token
    shown = frame_to_show(sources, token, scene)
    makers: dict[str, Callable[[ShownFrame], Sheet]] = {
        "similarity": _similarity, "features": _features, "coverage": coverage_sheet,
    }  # fmt: skip
    return makers[kind](shown), shown.frame.token


def frame_to_show(sources: Sources, token: str | None, scene: str | None) -> ShownFrame:
    """A frame of the bank.

    Raises:
        ConfigError: no such frame or scene, or nothing is taught there.
    """
    frame = taught_frame(token, sources.index, sources.bank, scene)
    if frame is None:
        raise ConfigError("no frame with a taught point", where=sources.bank.path, remedy="name a frame with --frame")
    return ShownFrame(sources, frame)


def _similarity(shown: ShownFrame) -> Sheet:
    _require_features(shown)
    queries = find_queries(shown)
    if not queries:
        what = "no taught point is seen well enough by a camera to be a query"
        raise ConfigError(what, where=f"frame {shown.frame.token}", remedy="name another frame with --frame")
    return similarity_sheet(shown, queries)


def _features(shown: ShownFrame) -> Sheet:
    _require_features(shown)
    return features_sheet(shown)


def _require_features(shown: ShownFrame) -> None:
    if not shown.has_features:
        what = f"no image of this frame, or no features of its scene {shown.frame.scene!r}"
        raise ConfigError(what, where=f"frame {shown.frame.token}", remedy="name another frame with --frame")
