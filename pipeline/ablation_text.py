"""What ``lima ablate`` prints: the tables, after every seed that is complete."""

from collections.abc import Sequence
from pathlib import Path

from lima_core.viz.ablation import SYNTHETIC, cautions, tables
from lima_core.viz.scores import HARD_SPACE
from pipeline.ablation import Study
from pipeline.node import Node, input_paths
from pipeline.runner import Say
from pipeline.text import table


class Progress:
    """Knows which seeds are complete, and prints the comparison so far when one more is."""

    def __init__(self, study: Study, work: Path, say: Say) -> None:
        self.study, self.work, self.say = study, work, say
        self.missing = {seed: {node.fingerprint for node in study.nodes(seed)} for seed in study.seeds}
        self.complete: list[int] = []

    def finished(self, node: Node) -> None:
        """Takes note of an artifact; the last seed's table is that of the end."""
        for seed in [seed for seed, missing in self.missing.items() if node.fingerprint in missing]:
            self.missing[seed].discard(node.fingerprint)
            if not self.missing[seed]:
                self.complete = [*self.complete, seed]
                if len(self.complete) < len(self.study.seeds):
                    self.say(result_text(self.study, self.complete, self.work))


def result_text(study: Study, seeds: Sequence[int], work: Path) -> str:
    """All tables over ``seeds``, and how far they can be trusted."""
    stage = study.stage
    outcome = stage.read_outcome(study.config, stage.Inputs(**input_paths(study.result(seeds), work)))
    parts = [f"{study.config.title}, seeds {', '.join(map(str, outcome.seeds))}"]
    parts += [SYNTHETIC] if outcome.synthetic else []
    for found in tables(outcome):
        parts += ["", found.title, table(found.header, found.rows)]
    return "\n".join(["", *parts, "", *cautions(outcome), ""]).replace(HARD_SPACE, " ")
