"""Export and import of whole folders: what leaves and comes back computes the same."""

import json
from pathlib import Path

import pytest
import torch

from lima_core.errors import ConfigError
from lima_core.geometry.voxels import CartesianGrid
from lima_core.models import load_model
from lima_core.models.folders import Facts, export_folder, export_foreign, save_import
from lima_core.models.foreign.exporting import find_dialect
from lima_core.models.foreign.importing import import_file
from lima_core.models.heads import MlpHeadConfig
from tests.lima_core.models.small_folders import points, segmentation_folder, student_folder

SIZES = {
    "slidr": {"inputs": (3,), "stem_kernels": (3,), "block_bn_momentum": 0.1},
    "superflow": {},
    "mmdet3d": {},
    "mmdet3d-spconv": {},
    "mmdet3d-minkowski": {},
    "pointcept": {"stem_kernels": (5,), "widen": "downsampling", "bn_eps": 1e-3},
}
"""What makes the small network one that the project can build."""


def facts(**fields: object) -> Facts:
    return Facts(**{"voxels": CartesianGrid(), "method": "slidr", "teacher": "t", "source": {"file": "f"}} | fields)


@pytest.mark.parametrize("write", [student_folder, segmentation_folder])
def test_an_exported_folder_is_the_same_network_and_knows_more(write: object, tmp_path: Path) -> None:
    write(tmp_path / "artifact")
    export_folder(tmp_path / "artifact", tmp_path / "out", {"scores": [{"miou": 0.5}], "provenance": {"commit": "c"}})
    before, after = load_model(tmp_path / "artifact"), load_model(tmp_path / "out")
    assert torch.equal(before(points(60)), after(points(60)))
    assert after.meta["scores"] == [{"miou": 0.5}] and len(after.meta["sha256"]) == 64
    assert before.meta.items() <= after.meta.items()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["artifact", "out"]


@pytest.mark.parametrize("form", sorted(SIZES))
@pytest.mark.parametrize("write", [student_folder, segmentation_folder])
def test_through_another_projects_names_and_back(form: str, write: object, tmp_path: Path) -> None:
    write(tmp_path / "artifact", **SIZES[form])
    dialect, divisor = find_dialect(form), 255.0 if form == "pointcept" else 1.0
    extra = {"provenance": {"commit": "c"}}
    head = export_foreign(tmp_path / "artifact", tmp_path / "foreign", dialect, divisor, extra)
    assert head == "with the weights"
    said = json.loads((tmp_path / "foreign" / "model.json").read_text())
    assert said["kind"] == f"{dialect.name} state dict" and said["provenance"] == extra["provenance"]
    before = load_model(tmp_path / "artifact")
    imported = import_file(tmp_path / "foreign" / said["file"], intensity_divisor=divisor)
    save_import(imported, tmp_path / "back", facts(voxels=before.grid))
    after = load_model(tmp_path / "back")
    tolerance = 1e-5 if form == "pointcept" else 0.0
    torch.testing.assert_close(after(points(60)), before(points(60)), rtol=tolerance, atol=tolerance)


def test_an_mlp_head_stays_behind_and_that_is_said(tmp_path: Path) -> None:
    student_folder(tmp_path / "artifact", MlpHeadConfig(hidden=3))
    said = export_foreign(tmp_path / "artifact", tmp_path / "out", find_dialect("superflow"), 1.0, {})
    assert said == "left out: an MLP, which that project does not have"
    assert import_file(tmp_path / "out" / "superflow.safetensors").head is None


def test_an_imported_folder_says_where_it_comes_from(tmp_path: Path) -> None:
    student_folder(tmp_path / "artifact")
    export_foreign(tmp_path / "artifact", tmp_path / "foreign", find_dialect("superflow"), 1.0, {})
    save_import(import_file(tmp_path / "foreign" / "superflow.safetensors"), tmp_path / "out", facts())
    meta = json.loads((tmp_path / "out" / "backbone" / "model.json").read_text())
    assert (meta["kind"], meta["method"], meta["teacher"], meta["in_channels"]) == ("backbone", "slidr", "t", 4)
    assert meta["imported"]["file"] == "f" and "none missing" in meta["imported"]["report"][0]


def test_nothing_that_is_there_is_overwritten(tmp_path: Path) -> None:
    student_folder(tmp_path / "artifact")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("x")
    with pytest.raises(ConfigError, match="is already there"):
        export_folder(tmp_path / "artifact", tmp_path / "out", {})
    with pytest.raises(ConfigError, match="is already there"):
        export_foreign(tmp_path / "artifact", tmp_path / "out", find_dialect("superflow"), 1.0, {})
    assert (tmp_path / "out" / "precious").read_text() == "x"


def test_a_network_that_cannot_be_said_leaves_no_folder(tmp_path: Path) -> None:
    student_folder(tmp_path / "artifact")
    with pytest.raises(ConfigError, match="slidr cannot build this network"):
        export_foreign(tmp_path / "artifact", tmp_path / "out", find_dialect("slidr"), 1.0, {})
    assert not (tmp_path / "out").exists()
