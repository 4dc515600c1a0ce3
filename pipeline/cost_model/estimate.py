"""Disk, memory and time of a plan, before anything starts.

Of each artifact the best that is known: an earlier one that differs in size only, else a calibration of this machine,
else an earlier one of another config, else the stage's rule of thumb. All but the last are scaled by the rule's shape.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nlargest
from itertools import islice
from pathlib import Path
from typing import Any

from lima_core.cost import Cost, Scale
from lima_core.errors import UserError
from lima_core.storage import is_remote
from lima_core.types import Config, Resources
from pipeline.cost_model import calibration
from pipeline.cost_model.observation import Observation, config_from, predict
from pipeline.cost_model.scale import configs_read, find_scale, reaching, scale_of_index
from pipeline.manifest import Manifest, folder_bytes
from pipeline.node import Node, Source, topological
from pipeline.places import here
from pipeline.planning import Step, artifacts

EARLIER, MEASURED, OTHER, RULE = "earlier artifact", "calibration", "earlier, other config", "rule of thumb"


def estimates(steps: Sequence[Step], work: Path, resources: Resources) -> list[Cost | None]:
    """One cost per step; None where nothing is known yet, or where the artifact is there already."""
    on, known = calibration.machine(resources), calibration.read(work)
    nodes = [step.node for step in steps]
    scale = find_scale(nodes, work, calibration.scan_points(nodes, known, on))
    past = _Past(work, on, {path.name: (path, record) for path, record in artifacts(work)})
    costs, begun = [], set()
    for step in steps:
        if step.state == "cached":
            costs.append(None)
            continue
        measured = calibration.record_of(step.node, known, on)
        cost = _cost(step.node, scale, resources, measured, past)
        if cost and cost.source == MEASURED and step.node.kind not in begun:
            cost = replace(cost, seconds=(cost.seconds or 0.0) + measured.first_s)
        begun.add(step.node.kind)
        costs.append(cost)
    return costs


def total(costs: Iterable[Cost | None], jobs: int = 1) -> Cost:
    """Sum of disk over what is known, and of time with so many at a time; of memory what the ``jobs`` largest take."""
    known = [cost for cost in costs if cost]
    times_s = [cost.seconds or 0.0 for cost in known]
    return Cost(
        disk_bytes=sum(cost.disk_bytes or 0 for cost in known),
        memory_bytes=sum(nlargest(jobs, (cost.memory_bytes or 0 for cost in known))),
        seconds=max(max(times_s, default=0.0), sum(times_s) / jobs),
        passing_bytes=sum(nlargest(jobs, (cost.passing_bytes for cost in known))),
    )


def _cost(
    node: Node, scale: Scale | None, resources: Resources, measured: calibration.Record | None, past: "_Past"
) -> Cost | None:
    if hasattr(node.stage, "scale"):
        scale = node.stage.scale(node.config)
    if not hasattr(node.stage, "estimate"):
        return past.unscaled(node)
    if scale is None:
        return None  # an earlier artifact says nothing of data that nobody has counted
    scale = reaching(node.stage, scale, configs_read(node))
    same, others = past.of(node)
    tries = ((same, EARLIER), ([measured.small, measured.large] if measured else [], MEASURED), (others, OTHER))
    for seen, source in tries:
        if seen:
            return predict(node.stage, node.config, scale, resources, seen, source)
    cost = node.stage.estimate(node.config, scale, resources)
    return None if cost == Cost() else replace(cost, source=RULE)


def _resources(record: Manifest) -> Mapping[str, Any]:
    return record.provenance.get("resources", {})


@dataclass(frozen=True)
class _Past:
    """Artifacts that were built before, in one session each."""

    work: Path
    on: str
    """The machine."""
    by_name: Mapping[str, tuple[Path, Manifest]]
    """By the folder's name."""

    def of(self, node: Node) -> tuple[list[Observation], list[Observation]]:
        """The newest that differs from ``node`` in size only, and the newest of all."""
        records = self._newest(node.kind)
        same = (self._seen(record, node) for record in records if self._is_kin(record, node))
        others = (self._seen(record, node) for record in records)
        return list(islice(filter(None, same), 1)), list(islice(filter(None, others), 1))

    def unscaled(self, node: Node) -> Cost | None:
        """What the newest of this stage took, where nothing says how it grows."""
        newest = next(iter(self._newest(node.kind)), None)
        return newest and Cost(newest.num_bytes, None, newest.seconds, source=OTHER)

    def _newest(self, kind: str) -> list[Manifest]:
        """Of this machine."""
        same = [record for _, record in self.by_name.values() if record.recipe["stage"] == kind]
        told = [record for record in same if not record.resumed and self._is_of_here(record)]
        return sorted(told, key=lambda record: record.created, reverse=True)

    def _is_of_here(self, record: Manifest) -> bool:
        if _resources(record).get("scheduler"):
            return False  # its workers may be any machines
        names = [record.provenance.get(name) for name in ("cpu", "num_cores", "gpu")]
        return calibration.machine_word(*names, _resources(record).get("engine")) == self.on

    def _seen(self, record: Manifest, node: Node) -> Observation | None:
        """What ``record`` took, and of how much; None where its index or config can no longer be read."""
        used = _resources(record)
        try:
            config = config_from(record.recipe["config"], node.stage)
            scale = node.stage.scale(config) if hasattr(node.stage, "scale") else self._scale(record, node)
        except (KeyError, ValueError, OSError, UserError):
            return None
        resources = Resources(device=used.get("device", "cpu"), workers=used.get("workers", 0))
        path, _ = self.by_name[f"{record.name}-{record.fingerprint[:8]}"]
        num_bytes = record.num_bytes if is_remote(path) else folder_bytes(path)
        return Observation(config, scale, resources, num_bytes, record.seconds)

    def _scale(self, record: Manifest, node: Node) -> Scale:
        """Of the index that an artifact was made from, or is."""
        index = next((each for each in topological([node]) if each.kind == "index"), None)
        name = self._index_of(record)
        path, of_index = self.by_name[name]
        raw = index.inputs["raw"] if index else None
        root = raw.root if isinstance(raw, Source) else here(self.work) / of_index.inputs["raw"]
        return reaching(node.stage, scale_of_index(path, root), self._configs_read(record, node))

    def _index_of(self, record: Manifest) -> str:
        """Folder of the index that an artifact, or what it was made from, was made from; its own, where it is one."""
        if "index" in record.inputs:
            return record.inputs["index"]
        read = record.inputs.get("build_memory")
        return self._index_of(self.by_name[read][1]) if read else f"{record.name}-{record.fingerprint[:8]}"

    def _configs_read(self, record: Manifest, node: Node) -> dict[str, Config]:
        reads = {name: read for name, read in node.inputs.items() if isinstance(read, Node) and name in record.inputs}
        records = {name: self.by_name.get(record.inputs[name]) for name in reads}
        return {
            name: config_from(found[1].recipe["config"], reads[name].stage) for name, found in records.items() if found
        }

    def _is_kin(self, record: Manifest, node: Node) -> bool:
        return self._same(record, node) and all(
            self._same(self.by_name[record.inputs[name]][1], node.inputs[name])
            for name in calibration.READ
            if isinstance(node.inputs.get(name), Node) and record.inputs.get(name) in self.by_name
        )

    @staticmethod
    def _same(record: Manifest, node: Node) -> bool:
        """Whether an artifact is what ``node`` will be, but for size."""
        try:
            config = config_from(record.recipe["config"], node.stage)
        except ValueError:
            return False
        wanted: Any = calibration.brief_config(node.stage, node.config)
        return record.recipe["version"] == node.stage.VERSION and calibration.brief_config(node.stage, config) == wanted
