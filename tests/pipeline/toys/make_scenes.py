"""Toy stage that writes a store of scenes as the real ones do, with a fitted file and folder beside it."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lima_core.checksums import is_sealed, seal
from lima_core.storage import Location, is_file
from lima_core.stores.row_array import write_array
from lima_core.stores.scene_store import declare, missing_scenes, scene_part
from lima_core.types import Config as Base
from lima_core.types import Resources
from lima_core.whole import appears_whole, write_json

VERSION = 1
REMOTE = True
SALT = "LIMA_TOY_SALT"
"""Another value makes other bytes of the same recipe, as a GPU may."""


class Config(Base):
    scenes: int = 3


@dataclass(frozen=True)
class Inputs:
    numbers: Path | None


def run(config: Config, inputs: Inputs, out: Location, resources: Resources) -> dict:
    scenes = [f"scene-{i}" for i in range(config.scenes)]
    declare(out / "toy.zarr", {"schema": "toy/1", "scenes": scenes})
    if not is_file(out / "fitted.json"):
        write_json(out / "fitted.json", {"fitted": True})
    if not is_sealed(out / "basis.zarr"):
        with appears_whole(out / "basis.zarr") as folder:
            write_array(folder, np.arange(5))
    missing = missing_scenes(out / "toy.zarr", scenes)
    for scene in missing:
        with appears_whole(scene_part(out / "toy.zarr", scene)) as folder:
            write_array(folder / "values", np.arange(100) + int(scene[-1]) + int(os.environ.get(SALT, 0)))
            seal(folder, {"num_frames": 1})
    return {"scenes": config.scenes, "made": len(missing)}
