"""THE FLOW: what an experiment is, and the nodes it consists of.  Read this first.

    raw ─ index ─┬─ extract-features ─┬─ [materialize] ─ distill ─┬─ finetune ─ evaluate ─┐
                 └─ build-memory ─────┘                           └─ finetune ─ evaluate ─┴─ report

``raw`` is a folder of recordings, or what stage synth makes when there is none. With a section ``materialize`` the
bank's targets are pooled once, and distill reads those. With a ``checkpoint`` from elsewhere nothing is distilled, nor
what that needs: downstream runs start from it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

import stages
from lima_core.datasets import open_dataset
from lima_core.datasets.adapter import digest_files
from lima_core.errors import CheckpointError, ConfigError
from lima_core.models.described import Network, described_start
from lima_core.models.pretrained import file_sha256
from lima_core.teachers import HuggingFaceConfig
from lima_core.training.checkpoint import WEIGHTS, read_meta
from lima_core.types import Config
from pipeline.fingerprint import digest
from pipeline.node import Node, Source
from stages import build_memory, distill, evaluate, extract_features, finetune, index, materialize, report, synth

STAGES = (
    "synth",
    "index",
    "extract-features",
    "build-memory",
    "materialize",
    "distill",
    "finetune",
    "evaluate",
    "report",
)

Init = Literal["random", "pretrained"]


class Downstream(Config):
    """One row of a results table: how a model is trained downstream, once per initialisation and seed."""

    task: Literal["seg"] = "seg"
    probe: bool = False
    """Train the head alone on a frozen backbone, by the config ``probe``; else everything, by ``finetune``."""
    ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the labelled training scenes (or frames: ``subset.rule``)."""
    inits: tuple[Init, ...] = ("random", "pretrained")


class Experiment(Config):
    """A config file; a section per stage (``stages.`` because a field hides the module of its name)."""

    name: str
    data_root: str | None = None
    """Folder of the recordings; null: the synthetic world.  Not it enters recipes, but a digest of what it holds."""
    checkpoint: str | None = None
    """Folder of a pretrained network (``lima import``, ``lima export``) to start from; null: distill one.  Not it
    enters recipes, but a digest of its weights, sizes, method and teacher."""
    synth: stages.synth.Config = stages.synth.Config()
    index: stages.index.Config
    extract_features: stages.extract_features.Config = stages.extract_features.Config()
    build_memory: stages.build_memory.Config = stages.build_memory.Config()
    materialize: stages.materialize.Config | None = None
    """How targets are pooled once, for slow or remote disks; null: while training, from references."""
    distill: stages.distill.Config = stages.distill.Config()
    finetune: stages.finetune.Config = stages.finetune.Config()
    """Of downstream runs that train everything."""
    probe: stages.finetune.Config = stages.finetune.Config(augment=None)
    """Of downstream runs that train the head alone."""
    evaluate: stages.evaluate.Config = stages.evaluate.Config()
    report: stages.report.Config = stages.report.Config()
    downstream: tuple[Downstream, ...] = (Downstream(probe=True),)
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    """Distillation and everything downstream of it is done once per seed."""

    @model_validator(mode="after")
    def _leaves_alone_what_the_flow_sets(self) -> "Experiment":
        for path, value, default, owner in (
            ("distill.seed", self.distill.seed, 0, "seeds"),
            ("finetune.seed", self.finetune.seed, 0, "seeds"),
            ("probe.seed", self.probe.seed, 0, "seeds"),
            ("finetune.probe", self.finetune.probe, False, "downstream"),
            ("probe.probe", self.probe.probe, False, "downstream"),
            ("finetune.init", self.finetune.init, "pretrained", "downstream"),
            ("probe.init", self.probe.init, "pretrained", "downstream"),
            ("finetune.subset.ratio", self.finetune.subset.ratio, 1.0, "downstream"),
            ("probe.subset.ratio", self.probe.subset.ratio, 1.0, "downstream"),
        ):
            if value != default:
                raise ConfigError(f"{path} is set by {owner!r}", remedy=f"set {owner!r} instead")
        window, built = self.distill.method.frames, self.build_memory.frames
        if window is not None and window > built:
            remedy = "make the bank's window at least as long"
            raise ConfigError(f"distill.method.frames {window} is above build_memory.frames {built}", remedy=remedy)
        return self

    @model_validator(mode="after")
    def _materialises_what_the_method_wants(self) -> "Experiment":
        if self.materialize is None:
            return self
        wanted, built = self.distill.method, self.build_memory.frames
        pooled = self.materialize.frames or built
        if pooled > built:
            remedy = "make the bank's window at least as long"
            raise ConfigError(f"materialize.frames {pooled} is above build_memory.frames {built}", remedy=remedy)
        if wanted.frames not in (None, pooled):
            what = f"distill.method.frames {wanted.frames}, but targets of {pooled} frames are materialised"
            raise ConfigError(what, remedy=f"set materialize.frames to {wanted.frames}, or materialize to null")
        if wanted.cross_view != self.materialize.cross_view:
            what = (
                f"distill.method.cross_view {wanted.cross_view}, materialize.cross_view {self.materialize.cross_view}"
            )
            raise ConfigError(what, remedy="make them equal, or set materialize to null")
        return self


def build(experiment: Experiment) -> list[Node]:
    """All nodes of an experiment, in the order of the flow.

    Raises:
        DataError: ``data_root`` is not there or holds no such data set.
        ConfigError: the same downstream run twice.
        CheckpointError: ``checkpoint`` is no such folder, or its ``model.json`` is broken.
    """
    world = Node("synth", synth, experiment.synth, {}) if experiment.data_root is None else None
    raw = world or _recordings(experiment)
    frames = Node("index", index, experiment.index, {"raw": raw})
    data = {"raw": raw, "index": frames}
    given, network = (None, experiment.distill) if experiment.checkpoint is None else _given(experiment.checkpoint)
    teaching = {} if given else _teaching(experiment, data)
    taught = data | ({"materialize": teaching["materialize"]} if "materialize" in teaching else teaching)
    students, evaluations = [], []
    for seed in experiment.seeds:
        config = experiment.distill.model_copy(update={"seed": seed})
        student = given or Node(f"distill-seed{seed}", distill, config, taught)
        students += [] if given else [student]
        for name, config in _downstream_runs(experiment, network, seed):
            start = {"checkpoint": student} if config.init == "pretrained" else {}
            trained = Node(name, finetune, config, data | start)
            evaluations.append(Node(f"evaluate-{name}", evaluate, experiment.evaluate, data | {"finetune": trained}))
    trainings = [node.inputs["finetune"] for node in evaluations]
    results = {"distills": _by_name(students), "finetunes": _by_name(trainings), "evaluations": _by_name(evaluations)}
    page = Node("report", report, experiment.report, data | teaching | results)
    return [*([world] if world else []), frames, *teaching.values(), *students, *trainings, *evaluations, page]


def _teaching(experiment: Experiment, data: Mapping[str, Node | Source]) -> dict[str, Node]:
    """What a student is taught from, by the field of the stages that read it."""
    memory = Node("build-memory", build_memory, experiment.build_memory, data)
    caches = {"extract_features": _features(experiment.extract_features, data), "build_memory": memory}
    if experiment.materialize is None:
        return caches
    return caches | {"materialize": Node("materialize", materialize, experiment.materialize, caches)}


def _given(checkpoint: str) -> tuple[Source, Network]:
    """A pretrained network from elsewhere, by its digest, and what it says about itself."""
    folder = Path(checkpoint).expanduser()
    start = described_start(read_meta(folder / "backbone"), folder / "backbone")
    weights = folder / "backbone" / WEIGHTS
    if not weights.is_file():
        raise CheckpointError("no such file", where=weights, remedy="give a folder from lima import or lima export")
    # Not all of model.json: when it was written, by whom and what it scored change no number downstream.
    said = {"weights": file_sha256(weights), "method": start.method, "teacher": start.teacher}
    return Source(folder, digest(said | start.network._asdict())), start.network


def _features(config: extract_features.Config, data: Mapping[str, Node | Source]) -> Node:
    """extract-features; a teacher in a local folder is read as raw data is: by its digest, not by its path."""
    teacher = config.teacher
    folder = Path(teacher.model).expanduser() if isinstance(teacher, HuggingFaceConfig) else None
    if folder is None or teacher.random_init or not folder.is_dir():
        return Node("extract-features", extract_features, config, data)
    files = [path for path in folder.iterdir() if path.is_file()]
    weights = Source(folder, digest_files(folder, files, []))
    config = config.model_copy(update={"teacher": teacher.model_copy(update={"model": "local folder"})})
    return Node("extract-features", extract_features, config, data | {"weights": weights})


def _by_name(nodes: Sequence[Node]) -> dict[str, Node]:
    return {node.name: node for node in nodes}


def _recordings(experiment: Experiment) -> Source:
    if "://" in experiment.data_root:
        what = "recordings are read from a folder of this machine"
        raise ConfigError(what, where=experiment.data_root, remedy="copy or mount them; only --work may be a URL")
    root = Path(experiment.data_root).expanduser()
    return Source(root, open_dataset(experiment.index.dataset, root).digest())


def _downstream_runs(
    experiment: Experiment, network: distill.Config | Network, seed: int
) -> Iterator[tuple[str, finetune.Config]]:
    """Name and config of every downstream training of one seed: ``probe-100pct-pretrained-seed0``."""
    seen = set()
    for run in experiment.downstream:
        base = experiment.probe if run.probe else experiment.finetune
        for init in run.inits:
            name = f"{'probe' if run.probe else 'finetune'}-{100 * run.ratio:g}pct-{init}-seed{seed}"
            if name in seen:
                raise ConfigError(f"{name} is listed twice", where="downstream", remedy="remove one")
            seen.add(name)
            subset = base.subset.model_copy(update={"ratio": run.ratio})
            values = {"probe": run.probe, "init": init, "subset": subset, "seed": seed}
            # The student's network, also for a random start: only what it was taught differs.
            values["backbone"] = base.backbone or network.backbone
            values["voxels"] = base.voxels or network.voxels
            yield name, base.model_copy(update=values)
