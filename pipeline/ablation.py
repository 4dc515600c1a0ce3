"""An ablation: arms that differ in a few fields of one experiment, over several seeds, and the nodes they consist of.

What arms have in common has one fingerprint and is built once: the bank, the features, the random starts.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import Field, model_validator

from lima_core.errors import ConfigError, did_you_mean
from lima_core.types import Config
from pipeline import config as configs
from pipeline.node import Node, topological

RANDOM = "random start"
"""Name of the row of downstream runs that no arm has taught."""


class Ablation(Config):
    """A file of ``lima ablate``."""

    name: str
    experiment: str
    """A complete experiment, relative to this file."""
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    reference: str | None = None
    """Arm that the others are compared with; null: the first."""
    arms: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """By name, what an arm sets: ``distill.method.frames: 1``."""
    grid: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Values by field; every combination is one more arm, ``frames=1 voxel_size_m=0.1``."""
    compare: tuple[tuple[str, str], ...] = ()
    """Further pairs; the first less the second."""

    @model_validator(mode="after")
    def _is_sound(self) -> "Ablation":
        names = [*self.arms, *(name for name, _ in combinations(self.grid))]
        if empty := [field for field, values in self.grid.items() if not values]:
            raise ConfigError(f"grid.{empty[0]}: no value", remedy="list the values to try")
        if not names:
            raise ConfigError("there is no arm", remedy="write arms: or grid:")
        if wrong := [name for name in names if not name.strip() or "\n" in name or name.startswith(RANDOM)]:
            raise ConfigError(f"an arm cannot be called {wrong[0]!r}", remedy=f"{RANDOM!r} and empty names are taken")
        for values, what in ((names, "arm"), (self.seeds, "seed")):
            if twice := [value for value in values if list(values).count(value) > 1]:
                raise ConfigError(f"{what} {twice[0]!r} is given twice", remedy="remove one")
        for name in (self.reference, *itertools.chain(*self.compare)):
            if name is not None and name not in (*names, RANDOM):
                raise ConfigError(f"{name!r} is no arm", remedy=did_you_mean(name, names))
        return self


@dataclass(frozen=True)
class Part:
    """An artifact in the comparison."""

    field: str
    """Of the stage's ``Inputs``."""
    label: str
    node: Node
    seed: int | None
    """None: of all seeds."""


@dataclass(frozen=True)
class Study:
    """The nodes of an ablation."""

    stage: ModuleType
    config: Config
    parts: Sequence[Part]
    num_unshared: int
    """Artifacts, had every arm its own."""

    @property
    def seeds(self) -> list[int]:
        """In the order in which they are run."""
        return list(dict.fromkeys(part.seed for part in self.parts if part.seed is not None))

    def nodes(self, seed: int) -> list[Node]:
        """What is trained and scored with one seed, arm by arm."""
        return [part.node for part in self.parts if part.seed == seed]

    def result(self, seeds: Sequence[int]) -> Node:
        """The comparison over some of the seeds."""
        inputs: dict[str, dict[str, Node]] = {name: {} for name in self.stage.Inputs.__dataclass_fields__}
        for part in self.parts:
            if part.seed is None or part.seed in seeds:
                inputs[part.field][part.label] = part.node
        return Node("ablation", self.stage, self.config, inputs)

    def arms_of(self) -> dict[str, str]:
        """By fingerprint, the arms that an artifact belongs to, as part or below one; those of all are left out."""
        found: dict[str, list[str]] = {}
        for part in self.parts:
            arm = self.arm_of(part)
            # What a random start reads is its arms' as well.
            for node in [part.node] if arm in self.config.starts else topological([part.node]):
                arms = found.setdefault(node.fingerprint, [])
                arms += [arm] if arm not in arms else []
        return {key: ", ".join(arms) for key, arms in found.items() if len(arms) < len(self.config.arms)}

    def arm_of(self, part: Part) -> str:
        """The arm (or random start) of a part."""
        return part.label if part.seed is None else self.stage.arm_of(part.label)

    @property
    def targets(self) -> list[Node]:
        """Everything that is wanted, seed by seed: one that is stopped early has whole comparisons."""
        return [*(node for seed in self.seeds for node in self.nodes(seed)), self.result(self.seeds)]


def load(path: Path) -> Ablation:
    """The ablation in a YAML file.

    Raises:
        ConfigError: one line for every mistake.
    """
    return configs.validate(configs.read_yaml(path), Ablation, where=path)


def arm_sets(ablation: Ablation) -> dict[str, tuple[str, ...]]:
    """What each arm sets, as ``a.b=c``, those of the grid last."""
    arms = [*ablation.arms.items(), *combinations(ablation.grid)]
    return {name: tuple(f"{field}={json.dumps(value)}" for field, value in sets.items()) for name, sets in arms}


def combinations(grid: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and fields of every combination of a grid's values; the last field changes fastest."""
    short = _short_names(list(grid))
    for values in itertools.product(*grid.values()) if grid else ():
        sets = dict(zip(grid, values, strict=True))
        yield " ".join(f"{short[field]}={_plain(value)}" for field, value in sets.items()), sets


def _short_names(fields: Sequence[str]) -> dict[str, str]:
    """The last words of each field that tell it from the others."""
    short = {}
    for field in fields:
        words = field.split(".")
        ends = (".".join(words[-count:]) for count in range(1, len(words) + 1))
        short[field] = next((end for end in ends if sum(f".{one}".endswith(f".{end}") for one in fields) == 1), field)
    return short


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def study(
    flow: ModuleType, stage: ModuleType, path: Path, overrides: Sequence[str], seeds: Sequence[int] | None
) -> Study:
    """The nodes of the ablation in ``path``.

    Args:
        flow: ``pipeline.graph``.
        stage: ``stages.ablation``.
        path: of the ablation.
        overrides: ``a.b=c`` for the experiment, before what the arms set.
        seeds: of the ablation's seeds only these; None: all.

    Raises:
        ConfigError: a mistake in the ablation, its experiment or an arm, which is named.
        DataError: no recordings.
    """
    ablation = load(path)
    if unknown := set(seeds or ()) - set(ablation.seeds):
        remedy = f"it has {', '.join(map(str, ablation.seeds))}"
        raise ConfigError(f"{min(unknown)} is no seed of this ablation", where="--seed", remedy=remedy)
    chosen = [seed for seed in ablation.seeds if not seeds or seed in seeds]
    _refuse_seeds(overrides, "--set")
    base = configs.load(path.parent / ablation.experiment, flow.Experiment, overrides)
    base = base.model_copy(update={"seeds": tuple(chosen)})
    sets = arm_sets(ablation)
    graphs = {name: flow.build(_experiment(base, texts, f"{path}: arm {name!r}")) for name, texts in sets.items()}
    starts = _starts(graphs)
    _refuse_absent_start(ablation, set(starts.values()), path)
    config = stage.Config(
        title=ablation.name,
        arms=tuple(stage.Arm(name=name, sets=texts) for name, texts in sets.items()),
        starts=tuple(dict.fromkeys(starts.values())),
        reference=ablation.reference or next(iter(sets)),
        pairs=ablation.compare,
    )
    parts = _parts(stage, graphs, starts, chosen)
    return Study(stage, config, parts, sum(_num_needed(nodes) for nodes in graphs.values()))


def _experiment(base: Config, sets: Sequence[str], where: str) -> Config:
    _refuse_seeds(sets, where)
    return configs.override(base, sets, where)


def _refuse_seeds(sets: Sequence[str], where: str) -> None:
    if any(text.partition("=")[0].strip().split(".")[0] == "seeds" for text in sets):
        raise ConfigError("seeds is set by the ablation", where=where, remedy="set its seeds, or give --seed")


def _refuse_absent_start(ablation: Ablation, starts: set[str], path: Path) -> None:
    if RANDOM in {ablation.reference, *itertools.chain(*ablation.compare)} - starts:
        why = "arms that train differently have one each" if starts else "nothing is trained downstream"
        raise ConfigError(f"there is no one {RANDOM!r} here: {why}", where=path, remedy="compare with an arm")


def _parts(
    stage: ModuleType, graphs: Mapping[str, Sequence[Node]], starts: Mapping[str, str], seeds: Sequence[int]
) -> list[Part]:
    """Parts by seed, then by arm; a random start that arms share comes once, with the first of them."""
    parts = []
    for name, nodes in graphs.items():
        fields = {"index": "indexes", "build-memory": "banks"}
        parts += [Part(fields[node.kind], name, node, None) for node in nodes if node.kind in fields]
    for seed, (name, nodes) in itertools.product(seeds, graphs.items()):
        for node in nodes:
            if node.kind == "distill" and node.config.seed == seed:
                parts.append(Part("distills", stage.label(node.name, name), node, seed))
            if node.kind == "evaluate" and node.inputs["finetune"].config.seed == seed:
                trained = node.inputs["finetune"]
                row = name if _is_taught(node) else starts[name]
                parts.append(Part("finetunes", stage.label(trained.name, row), trained, seed))
                parts.append(Part("evaluations", stage.label(node.name, row), node, seed))
    return list({(part.field, part.label): part for part in parts}.values())


def _num_needed(nodes: Sequence[Node]) -> int:
    """Artifacts of an arm; its report is not among them."""
    return len(topological(node for node in nodes if node.kind != "report"))


def _starts(graphs: Mapping[str, Sequence[Node]]) -> dict[str, str]:
    """The name of each arm's random start: one for all, unless arms change network, data or downstream training."""
    runs = {
        name: frozenset(node.fingerprint for node in nodes if node.kind == "evaluate" and not _is_taught(node))
        for name, nodes in graphs.items()
    }
    first = {run: name for name, run in reversed(runs.items()) if run}
    named = {run: RANDOM if len(first) == 1 else f"{RANDOM} ({name})" for run, name in first.items()}
    return {name: named[run] for name, run in runs.items() if run}


def _is_taught(evaluation: Node) -> bool:
    return "checkpoint" in evaluation.inputs["finetune"].inputs


def sharing_text(study: Study) -> str:
    """``7 arms x 3 seeds: 171 artifacts, 298 if nothing were shared``; and arms that are the same."""
    lines = [
        f"{_counted(len(study.config.arms), 'arm')} x {_counted(len(study.seeds), 'seed')}: "
        f"{len(topological(study.targets)) - 1} artifacts, {study.num_unshared} if nothing were shared"
    ]
    made: dict[frozenset[str], list[str]] = {}
    for arm in study.config.arms:
        own = [part for part in study.parts if part.seed is not None and study.arm_of(part) == arm.name]
        made.setdefault(frozenset(part.node.fingerprint for part in own), []).append(arm.name)
    lines += [f"the same arm under several names: {', '.join(names)}" for names in made.values() if len(names) > 1]
    return "\n".join(lines)


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number != 1)}"
