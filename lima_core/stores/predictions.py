"""Predicted classes of every point, one file a frame, laid out so that the nuScenes evaluator reads them as they are.

    <root>/predictions.json                            schema, task, classes: what the ids mean
    <root>/lidarseg/<eval_set>/<token>_lidarseg.bin    (N,) uint8, train id + 1 (never the devkit's 0)
    <root>/<eval_set>/submission.json                  what the challenge wants to know about the method

The same layout serves every data set. A file that is there is complete.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lima_core.errors import StoreError
from lima_core.stores.damage import damage_told
from lima_core.whole import appears_whole, write_json

SCHEMA_VERSION = 1
FACTS = "predictions.json"


@dataclass(frozen=True)
class Predictions:
    """A folder of predictions."""

    root: Path
    eval_set: str
    """Split name in the folder's paths: the devkit's for nuScenes (``val``, ``mini_val``), ours elsewhere."""
    classes: tuple[str, ...]
    """Class names by train id."""

    @staticmethod
    def create(root: Path, eval_set: str, classes: Sequence[str], uses_external: bool) -> "Predictions":
        """Starts a folder, or continues one that a killed run left.

        Args:
            root: the folder.
            eval_set: split name for the paths.
            classes: names by train id.
            uses_external: the model saw data or networks beyond this data set (a distilled checkpoint did).
        """
        facts = {"schema": SCHEMA_VERSION, "task": "seg", "eval_set": eval_set, "classes": list(classes)}
        uses = {"camera": False, "lidar": True, "radar": False, "map": False, "external": uses_external}
        write_json(root / eval_set / "submission.json", {"meta": {f"use_{name}": used for name, used in uses.items()}})
        write_json(root / FACTS, facts)
        return Predictions(root, eval_set, tuple(classes))

    @staticmethod
    def open(root: Path) -> "Predictions":
        """Opens a folder.

        Raises:
            StoreError: missing, unreadable, or of another schema version.
        """
        try:
            read = (root / FACTS).read_bytes()
        except OSError as error:
            raise StoreError("no predictions", where=root, remedy="build them with: lima stage finetune") from error
        with damage_told(root / FACTS, "build them again with: lima stage finetune"):
            facts = json.loads(read)
            if facts["schema"] != SCHEMA_VERSION:
                what = f"has schema version {facts['schema']}, this program reads {SCHEMA_VERSION}"
                raise StoreError(what, where=root, remedy="build it again with: lima stage finetune")
            return Predictions(root, facts["eval_set"], tuple(facts["classes"]))

    def path(self, token: str) -> Path:
        """File of a frame."""
        return self.root / "lidarseg" / self.eval_set / f"{token}_lidarseg.bin"

    def __contains__(self, token: str) -> bool:
        return self.path(token).exists()

    def write(self, token: str, train_ids: np.ndarray) -> None:
        """Stores (N,) train ids 0..K-1 of a frame's points, in the order of its scan."""
        assert train_ids.ndim == 1 and (not train_ids.size or train_ids.max() < len(self.classes))
        with appears_whole(self.path(token)) as partial:
            (train_ids.astype(np.uint8) + np.uint8(1)).tofile(partial)

    def read(self, token: str) -> np.ndarray:
        """(N,) uint8 train ids of a frame.

        Raises:
            StoreError: the frame has no prediction, or holds an id outside the classes.
        """
        if token not in self:
            raise StoreError(f"no prediction for frame {token}", where=self.root, remedy="finetune again")
        raw = np.fromfile(self.path(token), dtype=np.uint8)
        if raw.size and not 1 <= raw.min() <= raw.max() <= len(self.classes):
            what = f"ids {raw.min()}..{raw.max()}, expected 1..{len(self.classes)}"
            raise StoreError(what, where=self.path(token), remedy="finetune again")
        return raw - np.uint8(1)
