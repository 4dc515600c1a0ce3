"""Downstream trainings: which are shown side by side, and their curves beside the distillation's."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lima_core.stores.parquet import table_of
from lima_core.training.checkpoint import read_meta
from lima_core.viz.curves import Curve, draw_curves
from lima_core.viz.scores import method_name, setting_title
from lima_core.viz.svg import to_svg


@dataclass(frozen=True)
class Training:
    """One downstream training."""

    path: Path
    """Its artifact."""
    facts: Mapping[str, Any]
    """``training`` of its ``model.json``: protocol, init, method, ratio, seed and more."""

    @classmethod
    def open(cls, path: Path) -> "Training":
        """The training that made the artifact ``path``.

        Raises:
            CheckpointError: it holds no model.
        """
        return cls(path, read_meta(path / "model")["training"])

    @property
    def start(self) -> str:
        """Where it started from: ``random`` or the method that taught its backbone."""
        return "random" if self.facts["init"] == "random" else method_name(self.facts["method"])

    @property
    def title(self) -> str:
        """``linear probe on 100 % of the labels``."""
        return setting_title(self.facts["protocol"], self.facts["ratio"])

    @property
    def order(self) -> tuple:
        """Probe first, most labels first, lowest seed first, pre-trained before random."""
        facts = self.facts
        return facts["protocol"] != "linear_probe", -facts["ratio"], facts["seed"], facts["init"] == "random"


def shown_pair(trainings: Iterable[Training]) -> list[Training]:
    """The first pre-trained one and the random one that is like it otherwise, as far as they exist."""
    ordered = sorted(trainings, key=lambda training: training.order)
    pretrained = [training for training in ordered if training.facts["init"] != "random"][:1]
    wanted = (pretrained or ordered)[0].order[:3] if ordered else ()
    alike = [training for training in ordered if training.facts["init"] == "random" and training.order[:3] == wanted]
    return pretrained + alike[:1]


def curve_drawings(distilled: Sequence[Path], trainings: Iterable[Training]) -> list[str]:
    """SVG: one panel for the distillations, one for every protocol and share of labels.

    Args:
        distilled: artifacts of distillations.
        trainings: downstream ones.
    """
    panels: dict[str, list[Curve]] = {}
    for path in distilled:
        panels.setdefault("distillation", []).append(read_curve("distillation", path))
    for training in sorted(trainings, key=lambda training: training.order):
        panels.setdefault(training.title, []).append(read_curve(training.start, training.path))
    return [
        to_svg(draw_curves(title, panel), f"curves{number}", "Loss against optimiser step")
        for number, (title, panel) in enumerate(panels.items())
    ]


def read_curve(label: str, path: Path) -> Curve:
    """The curve that a training left in its artifact."""
    table = table_of((path / "curve.parquet").read_bytes(), ["step", "loss"])
    return Curve(label, table["step"].to_numpy(), table["loss"].to_numpy())
