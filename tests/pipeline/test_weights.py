"""``lima export`` and ``lima import``: what is printed, what is written, and the lines of mistakes."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from lima_core.models import load_model
from lima_core.types import Resources
from pipeline import cli, manifest
from pipeline.fingerprint import digest
from tests.lima_core.models.small_folders import points, segmentation_folder, student_folder


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def lima(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, output, errors."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(words)
    captured = capsys.readouterr()
    return exit_.value.code or 0, captured.out, captured.err


def record(folder: Path, stage: str, inputs: dict, summary: dict) -> str:
    """Makes ``folder`` an artifact; its fingerprint."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = {"stage": stage, "version": 1, "config": {}, "inputs": inputs}
    manifest.write(
        folder,
        name=folder.name.rpartition("-")[0],
        fingerprint=digest(recipe),
        recipe=recipe,
        inputs={},
        inputs_content={},
        summary=summary,
        provenance=manifest.provenance(Resources()),
        seconds=1.0,
        resumed=False,
    )
    return digest(recipe)


def test_an_export_takes_recipe_and_scores_along(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = tmp_path / "work"
    student = record(student_folder(work / "distill-seed0-00000000"), "distill", {}, {"loss": 0.5})
    tuned = record(segmentation_folder(work / "probe-seed0-00000001"), "finetune", {"checkpoint": student}, {})
    record(work / "evaluate-a-00000002", "evaluate", {"finetune": tuned}, {"miou": 0.25})
    record(work / "evaluate-b-00000003", "evaluate", {"finetune": "another"}, {"miou": 0.75})
    code, out, _ = lima(capsys, "export", "distill-seed0", "out")
    told = "model.json says where the weights come from; the scores of 1 evaluation are in it"
    assert code == 0 and out.splitlines() == [told, "written: out"]
    meta = json.loads(Path("out/backbone/model.json").read_text())
    assert [score["miou"] for score in meta["scores"]] == [0.25]
    assert meta["provenance"]["fingerprint"] == student and meta["provenance"]["summary"] == {"loss": 0.5}
    assert meta["provenance"]["packages"]["torch"] and meta["sha256"]
    assert "command" not in meta["provenance"]
    shutil.rmtree(work)  # the folder stands alone
    assert load_model("out")(points(9)).shape == (9, 7)


def test_out_in_another_format_and_in_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segmentation_folder(tmp_path / "mine")
    code, out, _ = lima(capsys, "export", "mine", "theirs", "--format", "superflow")
    assert code == 0 and "head: with the weights" in out and "theirs/superflow.safetensors" in out
    words = ("--set", "voxels.seam=closed", "--set", "method=slidr", "--set", "teacher=MoCo v2")
    code, out, _ = lima(capsys, "import", "theirs/superflow.safetensors", "back", *words)
    assert code == 0 and "none missing" in out and "left out: nothing" in out and "3 channels" in out
    assert "seam closed (as set)" in out
    back = load_model("back")
    assert (back.meta["method"], back.meta["teacher"]) == ("slidr", "MoCo v2")
    assert torch.equal(back(points(30)), load_model("mine")(points(30)))
    assert "as in superflow's own config" in lima(capsys, "import", "theirs/superflow.safetensors", "again")[1]


def test_a_closed_seam_is_told_where_the_other_code_cuts_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segmentation_folder(tmp_path / "closed")
    cut = segmentation_folder(tmp_path / "cut") / "model" / "model.json"
    meta = json.loads(cut.read_text())
    cut.write_text(json.dumps(meta | {"voxels": meta["voxels"] | {"seam": "cut"}}))
    line = "warning: superflow cuts the grid at azimuth 0; this network was trained with a closed seam, so it"
    told = {name: lima(capsys, "export", name, f"{name}-out", "--format", "superflow")[1] for name in ("closed", "cut")}
    assert [text.startswith(line) for text in told["closed"].splitlines()].count(True) == 1
    assert "warning" not in told["cut"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("import", "nothing.pth", "out"), "nothing.pth: no such file"),
        (("import", "text.pth", "out"), "text.pth: cut short or not written by torch.save"),
        (("import", "text.pth", "out", "--set", "voxel.size_m=1"), "--set: voxel: unknown key; did you mean 'voxels'"),
        (("import", "text.pth", "out", "--set", "intensity_divisor=0"), "intensity_divisor"),
        (("export", "mine", "mine"), "mine: is already there"),
        (("export", "mine", "out", "--format", "slider"), "unknown format 'slider'; did you mean 'slidr'?"),
        (("export", "mine", "out", "--format", "pointcept"), "pointcept cannot build this network: stem_kernels"),
        (
            ("export", "mine", "out", "--format", "slidr"),
            "inputs is null (all of x y z intensity); it needs [3]",
        ),
        (
            ("export", "nothing", "out"),
            "work: no artifact 'nothing'; nothing is built there yet",
        ),
        (("export", "empty/", "out"), "holds no model"),
        (("export", "mine", "file/out"), "cannot be written"),
    ],
)
def test_mistakes_are_one_line(
    words: tuple[str, ...], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segmentation_folder(tmp_path / "mine")
    (tmp_path / "empty").mkdir()
    for name in ("text.pth", "file"):
        (tmp_path / name).write_text("text")
    code, _, err = lima(capsys, *words)
    assert code == 2 and line in err and len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()
