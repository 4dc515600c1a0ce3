"""An ablation by the command line, from files to page, on a miniature of two sequences; and then again."""

import json
from pathlib import Path

import pytest

from lima_core.stores.ablation import ArmNumber, read_numbers
from pipeline import cli
from tests.lima_core.datasets.tiny_folder import write_tiny_folder
from tests.small_experiment import NETWORK

FIT = {"steps": 2, "batch_size": 2}
EXPERIMENT = {
    "name": "tiny",
    "index": {"dataset": {"name": "folder"}},
    "extract_features": {"image_size_px": [24, 40]},
    "build_memory": {"frames": 3, "voxel_size_m": 8.0},
    "distill": {
        "method": {"cross_sequence": {"regions": "none"}},
        "backbone": NETWORK,
        "voxels": {"name": "cartesian", "size_m": [2.0, 2.0, 2.0]},
        "fit": FIT,
    },
    "probe": {"augment": None, "fit": FIT},
    "downstream": [{"probe": True}],
}
ABLATION = {
    "name": "Tiny",
    "experiment": "tiny.yaml",
    "seeds": [0, 1],
    "arms": {"base": {"distill.method.frames": 1, "distill.method.cross_view": "first"}, "+ all": {}},
}


def ablate(folder: Path, *words: str) -> int:
    path = folder / "ablation.yaml"
    with pytest.raises(SystemExit) as exit_:
        cli.main(["ablate", str(path), "--work", str(folder / "work"), "--device", "cpu", "--workers", "0", *words])
    return exit_.value.code or 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings, experiment and ablation."""
    root = tmp_path_factory.mktemp("ablate")
    (root / "raw").mkdir()
    write_tiny_folder(root / "raw")
    described = json.loads((root / "raw" / "dataset.json").read_text()) | {"splits": {"train": ["a"], "val": ["b"]}}
    (root / "raw" / "dataset.json").write_text(json.dumps(described))
    (root / "tiny.yaml").write_text(json.dumps(EXPERIMENT | {"data_root": str(root / "raw")}))
    (root / "ablation.yaml").write_text(json.dumps(ABLATION))
    return root


@pytest.fixture(autouse=True)
def one_thread_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_plan_then_build_then_nothing_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate(folder, "--plan") == 0
    planned = capsys.readouterr().out.splitlines()
    # Index, features, bank; per seed a distillation, a probe and its score an arm, and one random probe and score.
    assert planned[0] == "2 arms x 2 seeds: 19 artifacts, 26 if nothing were shared" and planned[-1][:8] == "20 of 20"
    assert not (folder / "work").exists()

    assert ablate(folder, "--jobs", "1") == 0
    built = capsys.readouterr().out
    order = ["Tiny, seeds 0\n", "distill-seed1", "Tiny, seeds 0, 1\n", "numbers: "]
    assert [built.index(text) for text in order] == sorted(built.index(text) for text in order)
    assert "points over base" in built and "With 2 seeds" in built and "Synthetic data" not in built

    assert ablate(folder, "--jobs", "2") == 0
    again = capsys.readouterr().out
    assert "started" not in again and again[again.index("Tiny, seeds 0, 1") :] in built

    (out,) = (folder / "work").glob("ablation-*")
    check_numbers(read_numbers(out))
    assert (out / "ablation.md").read_text().startswith("## Tiny\n\nDifferences are paired")
    assert "<svg" in (out / "ablation.html").read_text()


def check_numbers(numbers: list[ArmNumber]) -> None:
    scores = {(n.arm, n.seed) for n in numbers if n.metric == "miou"}
    assert scores == {(arm, seed) for arm in ("random start", "base", "+ all") for seed in (0, 1)}
    windows = {n.arm: n.value for n in numbers if n.metric == "window"}
    assert windows == {"base": 1.0, "+ all": 3.0}
    depth = {n.arm: n.value for n in numbers if n.metric == "depth"}
    assert depth["+ all"] > depth["base"] >= 1.0
    assert {(n.arm, n.seed) for n in numbers if n.metric == "loss"} == {(a, s) for a in windows for s in (0, 1)}


def test_a_mistake_in_an_arm_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ABLATION | {"arms": {"+ far": {"distill.method.frames": 9}}}
    (folder / "wrong.yaml").write_text(json.dumps(wrong))
    with pytest.raises(SystemExit) as exit_:
        cli.main(["ablate", str(folder / "wrong.yaml"), "--work", str(folder / "work")])
    (line,) = capsys.readouterr().err.splitlines()
    assert exit_.value.code == 2 and "arm '+ far': distill.method.frames 9 is above build_memory.frames 3" in line


def test_the_disk_is_asked_again_when_the_index_is_there(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.plan_text.free_bytes", lambda path: 20_000)
    assert ablate(folder, "--work", str(folder / "small")) == 2
    assert " are needed and 20 kB free" in capsys.readouterr().err
    assert [path.name.split("-")[0] for path in (folder / "small").iterdir() if path.name[0] != "."] == ["index"]
