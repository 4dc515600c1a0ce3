"""ablation: trained and scored arms -> every arm against the reference, seed by seed, as numbers, page and Markdown.

Reads
    indexes, banks: artifacts of ``index`` and ``build-memory``, by arm.
    distills, finetunes, evaluations: artifacts of these stages, by ``<name> · <arm>``.
    manifest.json beside each of them.
Writes
    ablation.parquet: one row per arm, seed, subject and metric (``lima_core.stores.ablation``).
    ablation.html, ablation.md: the same as tables; they hold wall times.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lima_core.cost import Cost, Scale
from lima_core.errors import StoreError
from lima_core.memory.quality import Quality
from lima_core.storage import is_file, read_bytes
from lima_core.stores.ablation import ArmNumber, write_numbers
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.memory_bank import MemoryBank
from lima_core.stores.scores import read_scores
from lima_core.training.checkpoint import read_meta
from lima_core.types import Config as BaseConfig
from lima_core.types import DatasetFacts, Resources
from lima_core.viz import ablation_page
from lima_core.viz.ablation import Outcome, subset_notes, to_markdown
from lima_core.viz.scores import HARD_SPACE, OWN
from lima_core.whole import appears_whole

VERSION = 1
PAGE, MARKDOWN = "ablation.html", "ablation.md"
SEPARATOR = " · "


class Arm(BaseConfig):
    """One arm: what it is called and what it sets."""

    name: str
    sets: tuple[str, ...] = ()


class Config(BaseConfig):
    """What is compared with what."""

    title: str
    arms: tuple[Arm, ...]
    starts: tuple[str, ...] = ()
    """Names under which random initialisations come: one, unless arms differ in network or data."""
    reference: str
    pairs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Inputs:
    """What the stage reads."""

    indexes: Mapping[str, Path]
    banks: Mapping[str, Path]
    distills: Mapping[str, Path]
    finetunes: Mapping[str, Path]
    evaluations: Mapping[str, Path]


def label(name: str, arm: str) -> str:
    """Under which an artifact of an arm comes in: ``distill-seed0 · base``."""
    return f"{name}{SEPARATOR}{arm}"


def arm_of(text: str) -> str:
    """The arm in a label; names of artifacts hold no separator, names of arms may."""
    return text.partition(SEPARATOR)[2]


def run(config: Config, inputs: Inputs, out: Path, resources: Resources) -> dict[str, Any]:
    """Writes numbers, page and Markdown.

    Raises:
        StoreError: an artifact that cannot be read or has no manifest.
    """
    outcome = read_outcome(config, inputs)
    notes = all_notes(config, inputs, outcome)
    changes = {arm.name: arm.sets for arm in config.arms}
    title = f"{config.title} (synthetic data)" if outcome.synthetic else config.title
    page = ablation_page.page(title, outcome, facts(inputs, outcome), changes, notes, manifests(inputs))
    write_numbers(out, outcome.numbers)
    texts = {PAGE: page, MARKDOWN: to_markdown(title, outcome, changes, notes)}
    for name, text in texts.items():
        with appears_whole(out / name) as partial:
            partial.write_text(text, encoding="utf-8")
    return {"arms": len(config.arms), "seeds": len(outcome.seeds), "numbers": len(outcome.numbers), "page": PAGE}


def estimate(config: Config, scale: Scale, resources: Resources) -> Cost:
    """Disk, memory and time: tables, however large the data are; 10 arms of 3 seeds took 287 kB and 2 s."""
    return Cost(27_000 * len(config.arms), 600_000_000, 2.0)


def read_outcome(config: Config, inputs: Inputs) -> Outcome:
    """All numbers of the artifacts that are given, which need not be those of all seeds."""
    described = {arm: FrameIndex.open(path).facts for arm, path in inputs.indexes.items()}
    numbers = [*taught_numbers(inputs, described), *downstream_numbers(inputs, described)]
    names = (*config.starts, *(arm.name for arm in config.arms))
    return Outcome(numbers, names, config.reference, config.pairs, seconds(inputs))


def taught_numbers(inputs: Inputs, described: Mapping[str, DatasetFacts]) -> Iterator[ArmNumber]:
    """Quality of every arm's bank at the arm's window, and the losses of its distillations."""
    seen = set()
    for text, path in inputs.distills.items():
        arm, record = arm_of(text), manifest(path)
        origin = {"arm": arm, "dataset": described[arm].name, "synthetic": described[arm].synthetic}
        if arm not in seen:
            seen.add(arm)
            bank = bank_quality(inputs.banks[arm], record["summary"]["window"])
            yield from (ArmNumber(**origin, seed=None, subject="bank", metric=k, value=v) for k, v in bank.items())
        loss, seed = record["summary"]["last_loss"], record["recipe"]["config"]["seed"]
        yield ArmNumber(**origin, seed=seed, subject="distill", metric="loss", value=loss)


def bank_quality(path: Path, window: int) -> dict[str, float | None]:
    """Coverage, depth and purities of a bank in a window of key frames."""
    bank = MemoryBank.open(path)
    parts = [Quality.from_json(scene["quality"]) for scene in bank.attributes()]
    row = Quality.total(parts, bank.frames).by_window()[window - 1]
    return {"window": float(window), **{key: value for key, value in row.items() if key != "frames"}}


def downstream_numbers(inputs: Inputs, described: Mapping[str, DatasetFacts]) -> Iterator[ArmNumber]:
    """The scores of our own evaluator; the official one agrees with it, or there would be none."""
    synthetic = any(facts.synthetic for facts in described.values())
    for text, path in inputs.evaluations.items():
        arm = arm_of(text)
        for score in read_scores(path):
            if score.evaluator == OWN:
                yield ArmNumber(
                    arm=arm,
                    seed=score.seed,
                    subject=score.protocol,
                    metric=score.metric,
                    value=score.value,
                    dataset=score.dataset,
                    synthetic=described[arm].synthetic if arm in described else synthetic,
                    task=score.task,
                    ratio=score.ratio,
                    subset_rule=score.subset_rule,
                    subset_hash=score.subset_hash,
                    class_name=score.class_name,
                )


def seconds(inputs: Inputs) -> dict[str, dict[int, float]]:
    """Wall time of each arm's trainings and evaluations of a seed; resumed ones count with their last session."""
    found: dict[str, dict[int, float]] = {}
    for text, path in (*inputs.distills.items(), *inputs.finetunes.items(), *inputs.evaluations.items()):
        record = manifest(path)
        training = record["summary"].get("training") or record["recipe"]["config"]
        by_seed = found.setdefault(arm_of(text), {})
        by_seed[training["seed"]] = by_seed.get(training["seed"], 0.0) + record["seconds"]
    return found


def facts(inputs: Inputs, outcome: Outcome) -> dict[str, str]:
    """What the head of the page says: data, teacher, student, seeds, machine."""
    metas = [read_meta(path / "backbone") for path in inputs.distills.values()]
    indexes = {path: FrameIndex.open(path) for path in inputs.indexes.values()}.values()
    data = {
        f"{index.facts.name}, {'synthetic, generated' if index.facts.synthetic else 'recorded'}; "
        f"{len(index.scenes())} scenes, {len(index.frames())} key frames"
        for index in indexes
    }
    students = {f"{meta['backbone']['name']} on {meta['voxels']['name']} voxels" for meta in metas}
    return {
        "data": "; ".join(sorted(data)),
        "teacher": "; ".join(sorted({meta["teacher"] for meta in metas})),
        "student": "; ".join(sorted(students)),
        "seeds": ", ".join(map(str, outcome.seeds)),
        "reference": outcome.reference,
        "trained on": "; ".join(sorted(machines(inputs))),
    }


def machines(inputs: Inputs) -> set[str]:
    """Processor or GPU, engine and threads of every training."""
    found = set()
    for path in (*inputs.distills.values(), *inputs.finetunes.values()):
        origin = manifest(path)["provenance"]
        used, threads = origin.get("resources", {}), origin.get("num_threads")
        threads = "threads not recorded" if threads is None else f"{threads} thread{'s' * (threads != 1)}"
        found.add(f"{origin.get('gpu') or origin.get('cpu')}, engine {used.get('engine')}, {threads}")
    return found


def all_notes(config: Config, inputs: Inputs, outcome: Outcome) -> list[str]:
    """Sentences on what is odd about this ablation."""
    notes = [*same_arms(config, inputs), *subset_notes(outcome)]
    if len(found := machines(inputs)) > 1:
        notes.append(f"Trainings ran in different ways, which may change last bits: {'; '.join(sorted(found))}.")
    records = [manifest(path) for path in (*inputs.distills.values(), *inputs.finetunes.values())]
    if resumed := sum(record["resumed"] for record in records):
        notes.append(
            f"{resumed} of {len(records)} trainings were resumed; of those only the last session's seconds count."
        )
    return [note.replace(HARD_SPACE, " ") for note in notes]


def same_arms(config: Config, inputs: Inputs) -> list[str]:
    """Arms that are one and the same: all that they train is shared."""
    made: dict[frozenset[Path], list[str]] = {}
    for arm in config.arms:
        made.setdefault(frozenset(_folders(inputs, arm.name)), []).append(arm.name)
    return [
        f"{' and '.join(names)} are the same arm: they share every artifact." for names in made.values() if names[1:]
    ]


def _folders(inputs: Inputs, arm: str) -> Iterator[Path]:
    for found in (inputs.distills, inputs.evaluations):
        yield from (path for text, path in found.items() if arm_of(text) == arm)


def manifests(inputs: Inputs) -> list[tuple[str, dict[str, Any]]]:
    """Every artifact once, with the name in its manifest."""
    groups = (inputs.indexes, inputs.banks, inputs.distills, inputs.finetunes, inputs.evaluations)
    paths = dict.fromkeys(path for group in groups for path in group.values())
    return [(record["name"], record) for record in map(manifest, paths)]


def manifest(path: Path) -> dict[str, Any]:
    """The manifest that the runner wrote into an artifact.

    Raises:
        StoreError: there is none.
    """
    file = path / "manifest.json"
    if not is_file(file):
        raise StoreError("no manifest.json, so window, loss and seconds are not known", where=path)
    return json.loads(read_bytes(file))
