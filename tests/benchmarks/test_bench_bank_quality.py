"""The sweep of a bank's quality on a small drive, and the truth of the occlusion test on a hand-made image."""

import argparse
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.bank_tables import markdown
from benchmarks.bench_bank_quality import CHANGES, config_of, run
from benchmarks.occlusion_truth import Verdicts, load_depth_m, true_states
from lima_core.errors import DataError
from lima_core.geometry.camera import project
from lima_core.types import Frame
from stages import build_memory
from tests.lima_core.datasets.tiny_folder import write_tiny_folder
from tests.lima_core.memory.toy_drive import toy_drive


def test_every_variant_changes_what_its_name_says() -> None:
    default = build_memory.Config(frames=4, splits=("train", "val", "none"))
    assert config_of("default", 4) == default
    assert config_of("gates-off", 4) == default.model_copy(update={"occlusion": None, "free_space": None})
    assert config_of("voxel-0.15", 4).voxel_size_m == 0.15
    assert config_of("horizontal-2.0", 4).occlusion.horizontal == 2.0
    assert config_of("horizontal-2.0", 4).occlusion.vertical == default.occlusion.vertical
    assert all(config_of(name, 4) for name in CHANGES)


def test_rows_are_those_of_the_stage(tmp_path: Path) -> None:
    write_tiny_folder(tmp_path, ("a", "b"))
    names = ["default", "voxel-0.1", "occlusion-off"]
    arguments = argparse.Namespace(
        data_root=tmp_path, dataset={"name": "folder"}, variants=",".join(names), windows=[1, 3], scenes=1, frames=4,
        workers=0,
    )  # fmt: skip
    result = run(arguments)
    assert (result["scenes"], result["frames"], result["occlusion_truth"]) == (1, 4, None)
    rows = {(row["variant"], row["frames"]): row for row in result["rows"]}
    assert set(rows) == {(name, frames) for name in names for frames in (1, 3)}
    same = {**rows["voxel-0.1", 3], "variant": "default"}
    assert same == rows["default", 3], "an equal config is not built twice"
    assert 0 < rows["default", 1]["coverage"] <= rows["occlusion-off", 1]["coverage"]
    groups = {group["points"]: group for group in rows["default", 3]["groups"]}
    assert groups["all"]["coverage"] == rows["default", 3]["coverage"]
    text = markdown(result)
    assert f"| default | 3 | {100 * rows['default', 3]['coverage']:.2f} |" in text
    assert "### Voxel size" in text and "### Fallback" not in text


@pytest.fixture
def wall(tmp_path: Path) -> tuple[Path, Frame, np.ndarray]:
    """The first camera shows a wall 5 m away on its left half, and the sky on its right."""
    drive = toy_drive(num_points=2000)
    frame = drive.frames[0]
    camera = frame.cameras[0]
    depth_cm = np.zeros((camera.height_px, camera.width_px), dtype=np.uint16)
    depth_cm[:, : camera.width_px // 2] = 500
    path = tmp_path / "truth" / camera.name / f"{Path(camera.image).stem}_depth.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(depth_cm).save(path)
    return tmp_path, Frame(**{**vars(frame), "cameras": (camera, None, None)}), drive.points[0][:, :3]


def test_points_behind_the_wall_are_hidden_and_those_before_the_sky_in_front(
    wall: tuple[Path, Frame, np.ndarray],
) -> None:
    root, frame, xyz = wall
    projection = project(frame, xyz)
    states = true_states(root, frame, projection)
    left = projection.uv_px[0, :, 0] < frame.cameras[0].width_px // 2 - 0.5
    visible, depth_m = projection.visible[0], projection.depth_m[0]
    assert (states["hidden"][0] == (visible & left & (depth_m > 5.35))).all() and states["hidden"].any()
    assert (states["in_front"][0] == (visible & (~left | (depth_m < 4.65)))).all()
    assert (sum(state.astype(int) for state in states.values()) == projection.visible).all()


def test_a_missing_depth_is_said(wall: tuple[Path, Frame, np.ndarray]) -> None:
    root, frame, _ = wall
    next(root.glob("truth/*/*.png")).unlink()
    with pytest.raises(DataError, match="cannot be read"):
        load_depth_m(root, frame.cameras[0])


def test_shares_of_verdicts() -> None:
    verdicts = Verdicts({"hidden": 10, "visible": 80, "in_front": 10}, {"hidden": 8, "visible": 4, "in_front": 0})
    assert verdicts.row() == {
        "points_in_images": 100, "hidden": 0.1, "hidden_found": 0.8, "visible_lost": 0.05, "in_front_lost": 0.0,
        "hidden_among_kept": round(2 / 88, 5),
    }  # fmt: skip
    assert Verdicts().row()["hidden_found"] is None
