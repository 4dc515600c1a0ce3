"""A short run of the real stages on a few frames, to measure this machine: seconds, bytes, memory.

Every stage runs on a small sample, with everything that a process does only once (imports, loading), on the same again,
and on a larger one. What is measured is kept in ``<work>/calibration.json`` by stage, config and
machine. All else is written to one folder that is removed at the end, or by the next calibration where this one was
killed; no artifact is touched.
"""

import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from lima_core.cost import Sample, Scale
from lima_core.errors import DataError, UnreachableError, UserError
from lima_core.peak import peak_memory, tree_bytes
from lima_core.storage import Location, read_bytes
from lima_core.types import Config, Resources
from lima_core.whole import make_folder, remove, write_json
from pipeline import lock, manifest
from pipeline.cost_model.observation import Observation
from pipeline.cost_model.sample import write_sample
from pipeline.cost_model.scale import configs_read, is_readable, reaching, scale_of_index
from pipeline.fingerprint import canonical, digest
from pipeline.integrity import contents
from pipeline.manifest import cpu_name, folder_bytes, gpu_name
from pipeline.node import Node, Source, topological
from pipeline.places import here
from pipeline.planning import Step

FILE = "calibration.json"
FOLDER = "calibration"
SCHEMA = 2
ANY_SIZE = Sample(scenes=8, frames=10, steps=1, batch_size=1 << 30)
"""Of a config from which everything that is mere size has been taken."""
READ = ("index", "extract_features", "build_memory", "materialize")
"""Inputs on whose config the cost of what reads them depends."""
SMALL = Sample(scenes=2, frames=2, steps=1, batch_size=4)
LARGE = Sample(scenes=3, frames=12, steps=5, batch_size=4)
LONG_S = 10.0
"""A small sample that took longer is not run again."""

Say = Callable[[str], None]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Record:
    """What was measured of one stage."""

    small: Observation
    large: Observation
    first_s: float
    """What the first run in a process takes beyond that of the second."""


def brief_config(stage: ModuleType, config: Config, sample: Sample = ANY_SIZE) -> Config:
    """The config of the same work in little."""
    return stage.brief(config, sample) if hasattr(stage, "brief") else config


def kin(node: Node) -> str:
    """A word for the stage and all configs that its speed depends on, whatever the size of the data."""
    upstream = {name: kin(node.inputs[name]) for name in READ if isinstance(node.inputs.get(name), Node)}
    config = canonical(brief_config(node.stage, node.config))
    return digest({"stage": node.kind, "version": node.stage.VERSION, "config": config, "reads": upstream})


def machine(resources: Resources) -> str:
    """A word for what decides how fast this machine is, workers aside."""
    return machine_word(cpu_name(), os.cpu_count(), gpu_name(resources.device), resources.engine)


def machine_word(cpu: str | None, num_cores: int | None, gpu: str | None, engine: str | None) -> str:
    """The same of a manifest's provenance."""
    return digest({"machine": [cpu, num_cores, gpu, engine]})[:16]


def read(work: Location, say: Say = lambda line: None) -> dict[str, Any]:
    """All that was measured so far, by ``kin`` and machine; nothing where the file is absent or cannot be used."""
    try:
        found = json.loads(read_bytes(work / FILE))
    except UnreachableError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError:
        found = None
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema == SCHEMA and isinstance(found.get("records"), dict):
        return found["records"]
    why = "damaged" if schema in (None, SCHEMA) else f"of version {schema}, not {SCHEMA}"
    say(f"{work / FILE} is {why}: what was measured there is discarded")
    return {}


def record_of(node: Node, known: dict[str, Any], on: str) -> Record | None:
    """What was measured of a node's kin on a machine."""
    values = known.get(f"{kin(node)} {on}")
    try:
        sizes = [Observation.from_json(values[size], node.stage) for size in ("small", "large")]
        return Record(*sizes, values["first_s"])
    except (KeyError, TypeError, ValueError):
        return None


def scan_points(nodes: Iterable[Node], known: dict[str, Any], on: str) -> int | None:
    """Points of a scan of a world that is not made yet, as a sample of it had them."""
    for node in nodes:
        if node.kind == "index" and (record := record_of(node, known, on)):
            return record.large.scale.num_points
    return None


def calibrate(
    steps: Iterable[Step], work: Location, resources: Resources, say: Say, clock: Clock = time.monotonic
) -> None:
    """Measures what is to be built and was not measured on this machine before.

    Args:
        steps: a plan.
        work: folder of all artifacts; gets ``calibration.json``.
        resources: with which the run will be.
        say: receives one line a stage.
        clock: seconds; that of the processor tells what stages need where others use it too.

    Raises:
        DataError: recordings without an index, from which to choose frames.
        BusyError: another process is calibrating here.
    """
    on, known = machine(resources), read(work, say)
    steps = list(steps)
    waiting = {kin(step.node): step.node for step in reversed(steps) if step.state != "cached"}
    missing = [node for key, node in reversed(waiting.items()) if f"{key} {on}" not in known]
    if not missing:
        say("nothing to measure: every stage that is to be built was measured here before")
        return
    make_folder(here(work))
    with lock.held(work / FOLDER, wait=False, say=say):
        _measure_all(missing, _Bench(here(work) / f".{FOLDER}", work, resources, clock), on, say)


def _measure_all(missing: list[Node], bench: "_Bench", on: str, say: Say) -> None:
    remove(bench.folder)
    try:
        bench.require_index(missing)
        for node in topological(missing):
            if node not in missing:
                continue
            started = time.monotonic()
            try:
                record = bench.measure(node)
            except UserError as error:
                say(f"{node.name}: cannot be measured on a sample ({error})")
                continue
            _keep(bench.work, f"{kin(node)} {on}", node, record)
            say(f"measured  {node.name} in {time.monotonic() - started:.0f} s")
    finally:
        remove(bench.folder)


def _keep(work: Location, key: str, node: Node, record: Record) -> None:
    """Adds a record to the file at once: a calibration that is killed goes on where it stopped."""
    values = {"stage": node.kind, "first_s": record.first_s, "created": datetime.now(UTC).isoformat("T", "seconds")}
    sizes = {"small": record.small.to_json(), "large": record.large.to_json()}
    write_json(work / FILE, {"schema": SCHEMA, "records": read(work) | {key: values | sizes}})


def _write_manifest(node: Node, out: Path, summary: dict[str, Any], resources: Resources, seconds: float) -> None:
    """As the runner does, if with other names: manifests take room too, and the report shows them."""
    names = {name: read for name, read in node.inputs.items() if isinstance(read, Node)}
    manifest.write(
        out,
        name=node.name,
        fingerprint=node.fingerprint,
        recipe=node.recipe,
        inputs={name: read.name for name, read in names.items()},
        inputs_content={read.name: digest(read.name) for read in names.values()},
        summary=summary,
        provenance=manifest.provenance(resources),
        seconds=seconds,
        resumed=False,
    )


@dataclass
class _Bench:
    """Small artifacts of every kind, made when they are asked for."""

    folder: Path
    work: Location
    resources: Resources
    clock: Clock
    made: dict[tuple[str, Sample], Path] = field(default_factory=dict)
    has_data: bool = False
    """There are an index and what it lists, to choose frames from; else a small world is made."""

    def require_index(self, nodes: Iterable[Node]) -> None:
        """Looks for an index.

        Raises:
            DataError: there are recordings and no index of them yet.
        """
        for node in topological(nodes):
            if node.kind == "index":
                self.has_data = is_readable(node, self.work)
                if isinstance(node.inputs["raw"], Source) and not self.has_data:
                    remedy = "build it first: lima stage index"
                    raise DataError("no index yet, from which frames to measure could be chosen", remedy=remedy)

    def measure(self, node: Node) -> Record:
        """Runs the stage of ``node`` on both samples."""
        large = dataclasses.replace(LARGE, scenes=max(LARGE.scenes, min(self.resources.workers, 8)))
        if self.resources.device.startswith("cuda"):
            large = dataclasses.replace(large, batch_size=1 << 30)  # a GPU is slow on few scans
        small = cold = self._run(node, SMALL, "first")
        if cold.seconds < LONG_S:  # else what a process does only once is little beside it
            small = self._run(node, SMALL, "small")
        return Record(small, self._run(node, large, "large"), round(max(0.0, cold.seconds - small.seconds), 3))

    def _run(self, node: Node, sample: Sample, word: str) -> Observation:
        config, inputs = brief_config(node.stage, node.config, sample), self._inputs(node, sample)
        out = self.folder / f"{word}-{node.name}-{kin(node)[:8]}"
        remove(out)
        out.mkdir(parents=True)
        run = getattr(node.stage, "rehearse", node.stage.run)
        with self._quiet(), peak_memory(self.resources.device, tree_bytes) as peak:
            started = self.clock()
            summary = run(config, inputs, out, self.resources)
            seconds = round(self.clock() - started, 4)
        remove(out / contents.PASSING)  # as when an artifact is finished
        _write_manifest(node, out, summary, self.resources, seconds)
        self.made[kin(node), sample] = out
        scale = self._scale(node, sample)
        return Observation(config, scale, self.resources, folder_bytes(out), seconds, peak[0])

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """What stages say about a sample goes to a file."""
        with (self.folder / "log.txt").open("a") as log, redirect_stdout(log), redirect_stderr(log):
            yield

    def _inputs(self, node: Node, sample: Sample) -> Any:
        """The stage's inputs, of the sample; a start at random reads no checkpoint."""
        found: dict[str, Any] = {each.name: None for each in dataclasses.fields(node.stage.Inputs)}
        random = getattr(brief_config(node.stage, node.config, sample), "init", None) == "random"
        for name, given in node.inputs.items():
            if random and name == "checkpoint":
                continue
            if isinstance(given, Source):
                found[name] = given.root
            elif isinstance(given, Node):
                found[name] = self._artifact(given, sample)
            else:
                found[name] = {label: self._artifact(each, sample) for label, each in given.items()}
        return node.stage.Inputs(**found)

    def _artifact(self, node: Node, sample: Sample) -> Path:
        """A small artifact of the kind of ``node``."""
        if node.kind == "synth" and self.has_data:
            return node.path(here(self.work))
        key = kin(node), sample
        if key not in self.made and node.kind == "index" and self.has_data:
            self.made[key] = self.folder / f"index-{len(self.made)}"
            write_sample(node.path(self.work), self.made[key], sample)
        if key not in self.made:
            self._run(node, sample, f"for-others-{len(self.made)}")
        return self.made[key]

    def _scale(self, node: Node, sample: Sample) -> Scale:
        """Of the data that a run of ``node`` read, or made."""
        if hasattr(node.stage, "scale"):
            return node.stage.scale(brief_config(node.stage, node.config, sample))
        index = next((each for each in topological([node]) if each.kind == "index"), node)
        raw = index.inputs["raw"]
        root = raw.root if isinstance(raw, Source) else self._artifact(raw, sample)
        return reaching(node.stage, scale_of_index(self._artifact(index, sample), root), configs_read(node))
