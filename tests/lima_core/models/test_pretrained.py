"""A network from a folder, asked about points; and the line that is said of every folder that is none."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lima_core.errors import CheckpointError, DataError
from lima_core.geometry.voxels import CylindricalGrid, voxel_coords
from lima_core.models import build_backbone, load_model
from lima_core.models.minkunet import MinkUNetConfig
from lima_core.sparse.tensor import SparseTensor
from lima_core.training.checkpoint import save_weights
from tests.lima_core.models.small_folders import CONFIG, META, points, segmentation_folder, student_folder


def test_logits_of_a_point_are_those_of_its_voxel(tmp_path: Path) -> None:
    segmentation_folder(tmp_path)
    model = load_model(tmp_path)
    scan = points(200)
    logits = model(scan)
    assert logits.shape == (200, 3) and logits.dtype == torch.float32 and model.classes == ("car", "road", "tree")
    # By hand: one voxel per distinct cell, seen through its first point.
    cells = voxel_coords(torch.from_numpy(scan[:, :3]), CylindricalGrid()).tolist()
    first: dict[tuple, int] = {}
    for row, cell in enumerate(cells):
        first.setdefault(tuple(cell), row)
    assert len(first) < 200
    coords = torch.tensor([[0, *cell] for cell in first]).int()
    voxels = SparseTensor(torch.from_numpy(scan[list(first.values())]), coords, CylindricalGrid().wrap)
    with torch.no_grad():
        wanted = dict(zip(first, model.head(model.backbone(voxels).features), strict=True))
    torch.testing.assert_close(logits, torch.stack([wanted[tuple(cell)] for cell in cells]), rtol=1e-4, atol=1e-5)


def test_a_student_gives_features_and_without_its_head_those_of_the_backbone(tmp_path: Path) -> None:
    student_folder(tmp_path)
    model = load_model(str(tmp_path))
    scan = points(50)
    assert model(scan).shape == (50, 7) and model.features(scan).shape == (50, 5) and model.classes == ()
    assert torch.equal(model(torch.from_numpy(scan)), model(scan))
    for file in (tmp_path / "head").iterdir():
        file.unlink()
    (tmp_path / "head").rmdir()
    assert torch.equal(load_model(tmp_path)(scan), model.features(scan))


@pytest.mark.parametrize(
    ("scan", "line"),
    [
        (np.zeros((5, 3), np.float32), r"points are \(5, 3\), not \(N, 4\)"),
        (np.array([[np.nan, 0, 0, 0]], np.float32), "not finite"),
    ],
)
def test_points_that_cannot_be_asked_about(scan: np.ndarray, line: str, tmp_path: Path) -> None:
    student_folder(tmp_path)
    with pytest.raises(DataError, match=line):
        load_model(tmp_path)(scan)


def test_an_empty_scan_has_no_logits(tmp_path: Path) -> None:
    segmentation_folder(tmp_path)
    assert load_model(tmp_path)(np.zeros((0, 4), np.float32)).shape == (0, 3)


def truncate(folder: Path) -> None:
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-9])


def change_weights(folder: Path, name: str, value: torch.Tensor | None) -> None:
    file = folder / "weights.safetensors"
    tensors = load_file(file)
    del tensors[name]
    save_file(tensors if value is None else tensors | {name: value}, file)


def change_meta(folder: Path, **fields: object) -> None:
    meta = json.loads((folder / "model.json").read_text())
    changed = {key: value for key, value in (meta | fields).items() if value is not None}
    (folder / "model.json").write_text(json.dumps(changed))


NAME = "backbone.stem.0.1.norm.bias"


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (truncate, "unreadable weights.safetensors"),
        (lambda folder: change_weights(folder, NAME, None), f"{NAME} is missing"),
        (lambda folder: change_weights(folder, NAME, torch.zeros(5)), rf"{NAME} is \(5,\), not \(4,\)"),
        (lambda folder: change_weights(folder, NAME, torch.full((4,), torch.nan)), f"{NAME} has 4 values that are not"),
        (lambda folder: change_meta(folder, sha256="0" * 64), "not the file that model.json was written with"),
        (
            lambda folder: change_meta(folder, backbone={"name": "waffleiron"}),
            "known here: name 'waffleiron'",
        ),
        (lambda folder: change_meta(folder, backbone={"name": "minkunet", "depth": 3}), "not known here: depth 3"),
        (lambda folder: change_meta(folder, voxels=None), "model.json does not say 'voxels'"),
        (lambda folder: change_meta(folder, voxels={"name": "octree"}), "voxels not known here: .*octree"),
        (lambda folder: (folder / "model.json").write_text("{"), "no checkpoint here"),
        (lambda folder: (folder / "model.json").unlink(), "no checkpoint here"),
    ],
)
def test_a_spoilt_folder_is_told_in_one_line(spoil: object, line: str, tmp_path: Path) -> None:
    segmentation_folder(tmp_path)
    spoil(tmp_path / "model")
    with pytest.raises(CheckpointError, match=line) as error:
        load_model(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_a_folder_that_holds_no_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no model; give an artifact of distill or finetune"):
        load_model(tmp_path)


def test_an_old_folder_that_names_fewer_sizes_is_read(tmp_path: Path) -> None:
    old = {key: CONFIG[key] for key in CONFIG} | {"name": "minkunet", "bn_momentum": 0.1}
    backbone = build_backbone(MinkUNetConfig(**CONFIG), 4)
    save_weights(tmp_path / "backbone", backbone, META | {"kind": "backbone", "backbone": old})
    assert load_model(tmp_path)(points(20)).shape == (20, 5)
