import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lima_core.errors import CheckpointError
from lima_core.geometry.voxels import CartesianGrid, unique_voxels, voxel_coords
from lima_core.methods.student import load_student
from lima_core.models import build_backbone
from lima_core.models.heads import LinearHeadConfig, MlpHeadConfig, build_head
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.sparse.tensor import SparseTensor
from lima_core.training.checkpoint import save_weights

BACKBONE = MinkUNetConfig(
    stem=4, encoder_widths=(4, 8), encoder_blocks=(1, 1), decoder_widths=(8, 6), decoder_blocks=(1, 1)
)
GRID = CartesianGrid(size_m=(1.0, 1.0, 1.0))


def write_student(path: Path, head: LinearHeadConfig | MlpHeadConfig) -> tuple[torch.nn.Module, torch.nn.Module]:
    backbone = build_backbone(BACKBONE, 4, seed=3)
    modules = backbone, build_head(head, backbone.out_channels, 10, 3)
    for tensor in backbone.buffers():  # as after a training, so that batch and running statistics differ
        tensor.add_(torch.ones_like(tensor))
    meta = {"kind": "backbone", "backbone": BACKBONE.model_dump(mode="json"), "voxels": GRID.model_dump(mode="json")}
    save_weights(
        path / "backbone",
        backbone,
        meta | {"in_channels": 4, "method": "lima", "teacher": "toy", "window": 6, "cross_view": "mean"},
    )
    save_weights(path / "head", modules[1], {"kind": "head", "head": head.model_dump(mode="json"), "channels": 10})
    return modules


def scan() -> np.ndarray:
    return np.random.default_rng(0).uniform((-6, -6, -1, 0), (6, 6, 2, 1), (300, 4)).astype(np.float32)


@pytest.mark.parametrize("head", [LinearHeadConfig(), MlpHeadConfig(hidden=7)])
def test_features_are_those_of_the_modules_that_were_saved(tmp_path: Path, head: LinearHeadConfig) -> None:
    backbone, saved_head = write_student(tmp_path, head)
    student, points = load_student(tmp_path), scan()
    assert (student.method, student.teacher, student.channels) == ("lima", "toy", 10)
    cells = torch.nn.functional.pad(voxel_coords(torch.from_numpy(points[:, :3]), GRID), (1, 0))
    coords, representative, inverse = unique_voxels(cells)
    with torch.no_grad():
        voxels = backbone.eval()(SparseTensor(torch.from_numpy(points)[representative], coords)).features
        wanted = saved_head(voxels)[inverse].numpy()
    np.testing.assert_array_equal(student.features(points), wanted)
    assert wanted.shape == (300, 10) and wanted.std() > 0


def test_asking_changes_nothing(tmp_path: Path) -> None:
    write_student(tmp_path, LinearHeadConfig())
    student = load_student(tmp_path)
    first = student.features(scan())
    student.features(scan()[:50])
    np.testing.assert_array_equal(student.features(scan()), first)


def test_what_is_no_student_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        load_student(tmp_path)
    write_student(tmp_path, LinearHeadConfig())
    file = tmp_path / "backbone" / "model.json"
    meta = json.loads(file.read_text())
    for change, said in (({"kind": "model"}, "no distilled student"), ({"in_channels": 5}, "takes 5 input channels")):
        file.write_text(json.dumps(meta | change))
        with pytest.raises(CheckpointError, match=said):
            load_student(tmp_path)
