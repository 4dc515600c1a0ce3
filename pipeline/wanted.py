"""What a command is about: the nodes of an experiment, those of a stage, an artifact by its name."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lima_core.errors import ConfigError, StoreError, did_you_mean

if TYPE_CHECKING:
    from lima_core.storage import Location
    from pipeline.node import Node

DEMO = Path(__file__).parent / "demo.yaml"
NO_CONFIG = "no config given: using the synthetic world (configs/demo.yaml)"


def flow() -> ModuleType:
    """The graph, imported when it is first needed."""
    from pipeline import graph

    return graph


def nodes(path: Path | None, overrides: Sequence[str] | None) -> "list[Node]":
    """The nodes of an experiment file, or of the demo, which is said."""
    from pipeline.config import load

    if path is None:
        print(NO_CONFIG, flush=True)
    return list(flow().build(load(path or DEMO, flow().Experiment, overrides or [])))


def nodes_or_arms(path: Path | None, overrides: Sequence[str] | None) -> "list[Node]":
    """The nodes of an experiment, or of all arms of an ablation."""
    from pipeline.config import read_yaml

    if path is None or "experiment" not in read_yaml(path):
        return nodes(path, overrides)
    from pipeline import ablation
    from stages import ablation as stage

    return list(ablation.study(flow(), stage, path, overrides or [], None).targets)


def targets(nodes: "Sequence[Node]", stage: str) -> "list[Node]":
    """The nodes of a stage; for finetune the evaluations of what it trains, for a score is what one wants to see."""
    chosen = [node for node in nodes if node.kind == stage]
    if not chosen:
        known = did_you_mean(stage, {node.kind for node in nodes})
        raise ConfigError(f"this experiment has no stage {stage!r}", where="lima stage", remedy=known)
    if stage != "finetune":
        return chosen
    return [
        node for node in nodes if node.kind == "evaluate" and any(read in chosen for read in node.upstream)
    ] or chosen


def find_artifact(text: str, work: "Location") -> "Location":
    """The artifact that ``text`` means; of several the newest."""
    from pipeline.planning import artifacts

    if (Path(text) / "manifest.json").is_file() or "/" in text:
        from lima_core.storage import location

        return location(text)
    found: list[tuple[Location, Any]] = artifacts(work)
    matching = [item for item in found if item[1].name == text] or [i for i in found if i[0].name.startswith(text)]
    if not matching:
        names = {record.name for _, record in found}
        remedy = did_you_mean(text, names) if names else "nothing is built there yet: lima run, or give --work"
        raise StoreError(f"no artifact {text!r}", where=work, remedy=remedy)
    return max(matching, key=lambda item: item[1].created)[0]
