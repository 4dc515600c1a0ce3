"""How much data there is: counted in an index, or said by the stage that will make it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from types import ModuleType

from lima_core.cost import Scale, SceneScale
from lima_core.storage import Location
from lima_core.types import Config
from pipeline.node import Node, Source, located
from pipeline.places import at_hand
from pipeline.planning import is_finished

SCANS = 8
"""Evenly spaced scans whose points are counted."""


def find_scale(nodes: Iterable[Node], work: Location, num_points: int | None = None) -> Scale | None:
    """How much data the nodes read: from the built index, else as the stage that makes the data says, else None.

    Args:
        nodes: of an experiment.
        work: folder of all artifacts.
        num_points: of a scan, where a sample of data that are not made yet told.
    """
    nodes = list(nodes)
    for node in nodes:
        if node.kind == "index" and is_readable(node, work):
            return scale_of_index(node.path(work), located(node, lambda raw: at_hand(raw, work))["raw"])
    for node in nodes:
        if hasattr(node.stage, "scale"):
            said = node.stage.scale(node.config)
            return replace(said, num_points=num_points) if num_points else said
    return None


def reaching(stage: ModuleType, scale: Scale, reads: Mapping[str, Config]) -> Scale:
    """What of the data comes to a stage that reads artifacts of these configs."""
    return stage.reaching(scale, reads) if hasattr(stage, "reaching") else scale


def configs_read(node: Node) -> dict[str, Config]:
    """Configs of what a node reads, by field."""
    return {name: read.config for name, read in node.inputs.items() if isinstance(read, Node)}


@cache
def scale_of_index(path: Location, raw: Location) -> Scale:
    """Counts of an index; images and points of a few evenly spaced frames."""
    import numpy as np

    from lima_core.datasets import dataset_config, open_dataset
    from lima_core.stores.frame_index import FrameIndex

    index = FrameIndex.open(path)
    dataset, counts = open_dataset(dataset_config(index.dataset), raw), index.counts()
    scenes = list(counts)
    chosen = [scenes[(2 * i + 1) * len(scenes) // (2 * SCANS)] for i in range(SCANS)]
    frames = [index.frames(scene) for scene in dict.fromkeys(chosen)]
    # Of few scenes several frames each: their scans differ from place to place.
    several = max(1, SCANS // len(frames))
    scans = [of[(2 * i + 1) * len(of) // (2 * several)] for of in frames for i in range(several)]
    camera = next((camera for camera in scans[0].cameras if camera), None)
    return Scale(
        scenes=tuple(SceneScale(**counts[scene]) for scene in scenes),
        num_cameras=len(index.facts.cameras),
        num_points=round(float(np.mean([len(dataset.load_points(frame)) for frame in scans]))),
        image_size_px=(camera.height_px, camera.width_px) if camera else (0, 0),
    )


def is_readable(index: Node, work: Location) -> bool:
    """Whether an index and what it lists are there, on this machine or where they can be read as if they were."""
    raw = index.inputs["raw"]
    if not is_finished(index, work):
        return False
    return isinstance(raw, Source) or (is_finished(raw, work) and at_hand(raw, work) is not None)
