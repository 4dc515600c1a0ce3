"""``lima viz`` on a tiny drive that went through the whole flow, and on one of which parts are missing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pipeline import cli
from tests.lima_core.datasets.tiny_folder import write_tiny_folder

NETWORK = {
    "name": "minkunet", "stem": 4, "encoder_widths": [4, 8], "encoder_blocks": [1, 1], "decoder_widths": [8, 6],
    "decoder_blocks": [1, 1],
}  # fmt: skip
FIT = {"steps": 1, "batch_size": 2}
EXPERIMENT = {
    "name": "tiny",
    "index": {"dataset": {"name": "folder", "split_in_time": {"train_first": 4, "val_last": 2}}},
    "extract_features": {"image_size_px": [24, 40]},
    "build_memory": {"frames": 3, "voxel_size_m": 8.0},
    "distill": {"backbone": NETWORK, "voxels": {"name": "cartesian", "size_m": [2.0, 2.0, 2.0]}, "fit": FIT},
    "probe": {"augment": None, "fit": FIT},
}
Call = Callable[..., SimpleNamespace]


@pytest.fixture
def lima(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def call(*words: str | Path) -> SimpleNamespace:
        with pytest.raises(SystemExit) as exit_:
            cli.main([str(word) for word in words])
        captured = capsys.readouterr()
        return SimpleNamespace(code=exit_.value.code or 0, out=captured.out.splitlines(), err=captured.err.splitlines())

    return call


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``tiny.yaml`` and the artifacts of the whole experiment in ``work``."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "raw").mkdir()
    write_tiny_folder(folder / "raw")
    (folder / "tiny.yaml").write_text(json.dumps(EXPERIMENT | {"data_root": str(folder / "raw")}))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as exit_:
        patch.setenv("OMP_NUM_THREADS", "1")
        words = ["--work", str(folder / "work"), "--workers", "0", "--device", "cpu"]
        cli.main(["run", str(folder / "tiny.yaml"), *words])
    assert not exit_.value.code
    return folder


@pytest.fixture
def work(built: Path, tmp_path: Path) -> Path:
    """A copy of the artifacts, to remove parts of."""
    return Path(shutil.copytree(built / "work", tmp_path / "work"))


@pytest.mark.parametrize("kind", ["similarity", "features", "coverage", "errors"])
def test_every_figure_is_drawn_where_it_says(lima: Call, built: Path, work: Path, kind: str) -> None:
    done = lima("viz", kind, built / "tiny.yaml", "--work", work)
    assert (done.code, done.err) == (0, [])
    path = Path(done.out[-1])
    assert path.parent == work / "figures" and path.name.startswith(f"{kind}-") and path.suffix == ".png"
    with Image.open(path) as picture:
        assert picture.size[0] > 300 and picture.info["Software"] == "lima viz"
        assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 100


def test_a_frame_a_scene_and_a_file_can_be_named(lima: Call, built: Path, work: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "mine.png"
    by_scene = lima("viz", "coverage", built / "tiny.yaml", "--work", work, "--scene", "b")
    token = Path(by_scene.out[-1]).stem.removeprefix("coverage-")
    assert lima("viz", "coverage", built / "tiny.yaml", "--work", work, "--scene", "b").out == by_scene.out
    by_frame = lima("viz", "coverage", built / "tiny.yaml", "--work", work, "--frame", token, "--out", out)
    assert by_frame.out == [str(out)]
    assert out.read_bytes() == Path(by_scene.out[-1]).read_bytes()


@pytest.mark.parametrize(
    ("kind", "stage"),
    [
        ("similarity", "distill"), ("features", "extract-features"), ("coverage", "build-memory"), ("errors", "probe"),
        ("coverage", "index"),
    ],
)  # fmt: skip
def test_a_missing_artifact_is_named_with_the_command_that_builds_it(
    lima: Call, built: Path, work: Path, kind: str, stage: str
) -> None:
    doomed = list(work.glob(f"{stage}-*"))
    for path in doomed:
        shutil.rmtree(path)
    done = lima("viz", kind, built / "tiny.yaml", "--work", work)
    assert done.code == 2 and len(done.err) == 1
    assert done.err[0].startswith(f"lima: {work}: {stage}-") and " is not there; build it with: " in done.err[0]
    assert any(path.name in done.err[0] for path in doomed)
    command = "finetune" if stage == "probe" else stage
    assert done.err[0].endswith(f"lima stage {command} --config {built / 'tiny.yaml'} --work {work}")
    assert not list(work.glob(f"{stage}-*")), "lima viz builds nothing"


def test_what_is_left_out_is_said(lima: Call, built: Path, work: Path) -> None:
    (doomed,) = work.glob("probe-100pct-random-*")
    shutil.rmtree(doomed)
    done = lima("viz", "errors", built / "tiny.yaml", "--work", work)
    assert done.code == 0
    assert done.out[0] == f"not there and left out: {doomed.name}"


def test_a_file_of_another_program_is_not_overwritten(lima: Call, built: Path, work: Path, tmp_path: Path) -> None:
    out = tmp_path / "holiday.png"
    Image.new("RGB", (4, 4)).save(out)
    before = out.read_bytes()
    done = lima("viz", "coverage", built / "tiny.yaml", "--work", work, "--out", out)
    assert done.code == 2 and "was not written by lima viz; give another file with --out" in done.err[0]
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["covrage"], "unknown figure 'covrage'; did you mean 'coverage'?"),
        (["coverage", "--frame", "x", "--scene", "y"], "--frame and --scene exclude each other"),
        (["coverage", "--frame", "x"], "no frame with token 'x'"),
        (["coverage", "--scene", "x"], "holds nothing of scene 'x'"),
        (["errors", "--scene", "x"], "no scene 'x' in the frame index; known: a, b"),
        (["errors", "--set", "downstream=[]"], "this experiment has no stage 'finetune', which the figure reads"),
        (["rerun", "--frame", "x"], "a recording is of a scene"),
        (["coverage", "--out", "x.jpg"], "--out x.jpg does not end in .png"),
    ],
)
def test_a_users_mistake_is_one_line(lima: Call, built: Path, words: list[str], said: str) -> None:
    kind, *flags = words
    done = lima("viz", kind, built / "tiny.yaml", *flags, "--work", built / "work")
    assert done.code == 2 and len(done.err) == 1 and said in done.err[0]


def test_a_recording_of_a_scene(lima: Call, built: Path, work: Path) -> None:
    pytest.importorskip("rerun", reason="rerun is not installed: pip install rerun-sdk==0.23.1")
    for _ in range(2):
        done = lima("viz", "rerun", built / "tiny.yaml", "--work", work, "--scene", "b")
        assert (done.code, done.err) == (0, [])
    assert "errors_random" in done.out[0] and "errors_LiMA" in done.out[0]
    assert done.out[-1] == str(work / "figures" / "rerun-b.rrd") and Path(done.out[-1]).stat().st_size > 10_000
