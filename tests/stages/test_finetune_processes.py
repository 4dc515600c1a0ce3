"""Fine-tuning and probe by two processes, against one: weights, curves, what is chosen, and who writes."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from lima_core.geometry.voxels import CartesianGrid
from lima_core.loading.limits import LimitsConfig
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.training.checkpoint import read_meta, read_weights
from lima_core.training.choice import SelectionConfig
from lima_core.training.config import KeepConfig
from lima_core.training.loop import FitConfig
from lima_core.training.optim import ConstantConfig, SGDConfig
from lima_core.types import Resources
from stages import finetune
from tests.lima_core.training.processes import together

TINY = MinkUNetConfig(
    stem=4, encoder_widths=(4, 8), encoder_blocks=(1, 1), decoder_widths=(8, 8), decoder_blocks=(1, 1)
)
FIT = FitConfig(
    epochs=2,
    batch_size=3,
    optimiser=SGDConfig(lr=0.05),
    schedule=ConstantConfig(),
    grad_clip=1.0,
    checkpoints=KeepConfig(every_epochs=1),
)
BASE = {"init": "random", "backbone": TINY, "voxels": CartesianGrid(size_m=(0.8, 0.8, 0.4)), "fit": FIT}
CASES = {
    "probe": finetune.Config(**BASE, probe=True, augment=None),
    "all": finetune.Config(**BASE, limits=LimitsConfig(max_points=300, max_voxels=60)),
    "best": finetune.Config(**BASE, selection=SelectionConfig(rule="best", heldout=0.5)),
}


def train(rank: int, size: int, root: Path, raw: Path, index: Path) -> dict[str, dict[str, Any]]:
    """Summary of every case."""
    torch.set_num_threads(1)
    summaries = {}
    for name, config in CASES.items():
        out, resources = root / f"{name}-{size}", Resources(rank=rank, world_size=size, workers=1)
        out.mkdir(exist_ok=True)
        summaries[name] = finetune.run(config, finetune.Inputs(raw=raw, index=index), out, resources)
    return summaries


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, labelled_world: Path, labelled_index: Path) -> Path:
    folder = tmp_path_factory.mktemp("finetune-processes")
    answers = together(train, 2, folder / "meet", folder, labelled_world, labelled_index)
    assert all(isinstance(answer, dict) for answer in answers), "\n".join(map(str, answers))
    assert all(summary["processes"] == 2 for summary in answers[0].values()) and not any(answers[1].values())
    train(0, 1, folder, labelled_world, labelled_index)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_what_one_trains(name: str, root: Path) -> None:
    one, two = (root / f"{name}-{size}" for size in (1, 2))
    expected, found = read_weights(one / "model"), read_weights(two / "model")
    assert all(torch.allclose(found[key], value, rtol=1e-3, atol=1e-5) for key, value in expected.items())
    curves = [pq.read_table(out / "curve.parquet").to_pydict() for out in (one, two)]
    assert curves[0].keys() == curves[1].keys()
    for column, values in curves[0].items():
        assert np.allclose(curves[1][column], values, rtol=1e-3, equal_nan=True), column
    assert curves[0].get("dropped_points") == curves[1].get("dropped_points")
    assert ("dropped_points" in curves[0]) == (name == "all") and ("heldout_miou" in curves[0]) == (name == "best")


@pytest.mark.parametrize("name", CASES)
def test_what_the_model_says_of_itself(name: str, root: Path) -> None:
    one, two = (read_meta(root / f"{name}-{size}" / "model") for size in (1, 2))
    assert (one.pop("processes"), two.pop("processes")) == (1, 2) and one == two
    kept = [sorted(path.name for path in (root / f"{name}-{size}/checkpoints").iterdir()) for size in (1, 2)]
    assert kept[0] == kept[1] and len(kept[0]) == 2
