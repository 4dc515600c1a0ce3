"""report: one page from whatever there is; what is missing is said, and nothing on the page is made up."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lima_core.datasets import dataset_config, open_dataset
from lima_core.errors import ConfigError
from lima_core.stores.frame_index import FrameIndex
from lima_core.stores.predictions import Predictions
from lima_core.stores.scores import Score, write_scores
from lima_core.training.checkpoint import read_meta
from lima_core.training.loop import FitConfig
from lima_core.types import Resources
from lima_core.whole import write_json
from stages import distill, report
from tests.stages.small_run import BACKBONE, VOXELS, Artifacts, artifacts

MIOU = {("random", 0): 0.20, ("random", 1): 0.24, ("pretrained", 0): 0.50, ("pretrained", 1): 0.54}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> report.Inputs:
    """A tiny drive with everything that upstream stages leave; the student was trained for a step."""
    root = tmp_path_factory.mktemp("everything")
    built = artifacts(root)
    index = with_val(built.index, root / "index-with-val")
    untrained_student(built, root / "distill")
    trainings, evaluations = {}, {}
    for init, seed in MIOU:
        name = f"probe-{init}-{seed}"
        trainings[name], evaluations[f"evaluate-{name}"] = downstream(root, built.raw, index, init, seed)
    return report.Inputs(
        built.raw, index, built.features, built.memory, {"distill": root / "distill"}, trainings, evaluations
    )


def with_val(index: Path, out: Path) -> Path:
    """The same index, its second sequence as validation split."""
    found = FrameIndex.open(index)
    out.mkdir()
    frames = [replace(frame, split="val" if frame.scene == "b" else "train") for frame in found.frames()]
    FrameIndex.write(out, frames, found.facts, found.dataset)
    return out


def untrained_student(built: Artifacts, out: Path) -> None:
    """What distill leaves after one step; its teacher goes by a name that a page must escape."""
    out.mkdir()
    config = distill.Config(backbone=BACKBONE, voxels=VOXELS, fit=FitConfig(steps=1, batch_size=2))
    distill.run(config, distill.Inputs(built.raw, built.index, built.features, built.memory), out, Resources())
    meta = read_meta(out / "backbone") | {"teacher": "a toy <teacher>"}
    write_json(out / "backbone" / "model.json", meta)
    write_curve(out)


def write_curve(path: Path) -> None:
    pq.write_table(
        pa.table({"step": np.arange(1, 6, dtype=np.int32), "loss": 1 / np.arange(1.0, 6)}), path / "curve.parquet"
    )


def downstream(root: Path, raw: Path, index: Path, init: str, seed: int) -> tuple[Path, Path]:
    """What finetune and evaluate leave, as far as the page reads it; predictions are the truth with some errors."""
    facts = {
        "dataset": "tiny", "task": "seg", "protocol": "linear_probe", "init": init, "seed": seed, "ratio": 1.0,
        "method": "none" if init == "random" else "lima", "subset_rule": "every_nth_scene",
        "subset_hash": "0123456789abcdef", "num_scenes": 1, "num_frames": 6,
    }  # fmt: skip
    trained, scored = root / f"finetune-{init}-{seed}", root / f"evaluate-{init}-{seed}"
    write_json(trained / "model" / "model.json", {"training": facts})
    write_curve(trained)
    opened = FrameIndex.open(index)
    dataset = open_dataset(dataset_config(opened.dataset), raw)
    predictions = Predictions.create(trained / "predictions", "val", opened.facts.classes, False)
    for frame in opened.frames(split="val"):
        truth = dataset.load_labels(frame)
        predictions.write(frame.token, np.where(truth == 255, 0, truth).astype(np.uint8))
    value = MIOU[init, seed]
    named = [("miou", "", value), *(("iou", name, value) for name in opened.facts.classes)]
    scored.mkdir()
    write_scores(scored, [
        Score(**facts, evaluator="lima", metric=metric, class_name=name, value=number) for metric, name, number in named
    ])  # fmt: skip
    return trained, scored


def page(inputs: report.Inputs, out: Path, config: report.Config | None = None) -> str:
    out.mkdir(exist_ok=True)
    report.run(config or report.Config(), inputs, out, Resources())
    return (out / "report.html").read_text(encoding="utf-8")


def test_everything_is_there(inputs: report.Inputs, tmp_path: Path) -> None:
    text = page(inputs, tmp_path / "out")
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert headings == [
        "Results on the validation split", "Training", "The memory bank", "One frame and its memory",
        "What the student has learned", "Where predictions are wrong", "Where it comes from",
    ]  # fmt: skip
    assert "a toy &lt;teacher&gt;" in text and "filterbank (fixed filters, not a learned network" in text
    assert "not recorded" in text
    assert text.count("<svg") == 5 and text.count("<img") >= 8
    assert "There " not in re.sub(r"<[^>]*>", "", text)


def test_the_numbers_are_those_of_the_scores(inputs: report.Inputs, tmp_path: Path) -> None:
    text = page(inputs, tmp_path / "out").replace("\N{NO-BREAK SPACE}", " ")
    assert "reaches 52.0 ± 2.8 % mIoU and random initialisation 22.0 ± 2.8 %: +30.0 points" in text
    summary = report.run(report.Config(), inputs, tmp_path / "out", Resources())
    assert "+30.0 points" in summary["reading"]
    assert summary["page_bytes"] == (tmp_path / "out" / "report.html").stat().st_size


def test_the_page_needs_nothing_else(inputs: report.Inputs, tmp_path: Path) -> None:
    text = page(inputs, tmp_path / "out")
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "<script" not in text and "@import" not in text
    assert len(text) < 5_000_000


def test_same_inputs_same_bytes(inputs: report.Inputs, tmp_path: Path) -> None:
    assert page(inputs, tmp_path / "one") == page(inputs, tmp_path / "two")


def test_with_the_index_alone_every_section_says_what_is_missing(inputs: report.Inputs, tmp_path: Path) -> None:
    alone = report.Inputs(inputs.raw, inputs.index, *[None] * 5)
    text = page(alone, tmp_path / "out")
    for said in (
        "There is no comparison of random initialisation and pre-training yet.",
        "There are no scores: no evaluation was given.",
        "There are no curves: no training was given.",
        "There is no memory bank: none was given.",
        "There is no frame to show: no bank with a taught point was given.",
        "There are no pictures of features: no frame of a bank was given.",
        "There are no predictions: no downstream training was given.",
    ):
        assert said in text


@pytest.mark.parametrize("field", ["extract_features", "build_memory", "distills", "finetunes", "evaluations"])
def test_any_one_input_may_be_missing(inputs: report.Inputs, tmp_path: Path, field: str) -> None:
    assert page(replace(inputs, **{field: None}), tmp_path / "out").endswith("</html>\n")


def test_features_that_are_missing_are_said(inputs: report.Inputs, tmp_path: Path) -> None:
    text = page(replace(inputs, extract_features=None), tmp_path / "out")
    assert "no pictures of features: none were given" in text and "instead of" not in text


def test_a_student_that_is_missing_is_said(inputs: report.Inputs, tmp_path: Path) -> None:
    assert "no pictures of features: no distilled student" in page(replace(inputs, distills=None), tmp_path / "out")


def test_synthetic_data_are_called_so_in_the_title(inputs: report.Inputs, tmp_path: Path) -> None:
    index = FrameIndex.open(inputs.index)
    synthetic = tmp_path / "synthetic"
    synthetic.mkdir()
    FrameIndex.write(synthetic, index.frames(), replace(index.facts, synthetic=True), index.dataset)
    titles = [
        re.search(r"<title>(.*?)</title>.*<h1>(.*?)</h1>", page(given, tmp_path / "out", config), re.DOTALL).groups()
        for given, config in (
            (replace(inputs, index=synthetic), report.Config()),
            (replace(inputs, index=synthetic), report.Config(title="Mine & yours")),
            (inputs, report.Config()),
        )
    ]
    assert all("synthetic" in part for part in (*titles[0], *titles[1]))
    assert titles[1][1] == "Mine &amp; yours (synthetic data)"
    assert not any("synthetic" in part for part in titles[2])


def test_manifests_are_printed_with_their_own_names(inputs: report.Inputs, tmp_path: Path) -> None:
    origin = {"commit": None, "dirty": None, "python": "3.11.7", "packages": {}, "command": "lima run"}
    record = {
        "name": "distill-seed0", "fingerprint": "cd" * 32, "created": "2026-01-01T00:00:00+00:00", "seconds": 3.0,
        "num_bytes": 10, "resumed": False, "inputs": {}, "summary": {}, "recipe": {"config": {}}, "provenance": origin,
    }  # fmt: skip
    path = inputs.distills["distill"] / "manifest.json"
    write_json(path, record)
    try:
        text = page(inputs, tmp_path / "out")
    finally:
        path.unlink()
    assert "distill-seed0" in text and "cd" * 32 in text


def test_frames_can_be_named(inputs: report.Inputs, tmp_path: Path) -> None:
    frames = FrameIndex.open(inputs.index).frames()
    seen, scan = frames[1].token, frames[-1].token
    text = page(inputs, tmp_path / "out", report.Config(frame=seen, scan=scan))
    assert text.count(f"token {seen}.") == text.count(f"token {scan}.") == 1
    with pytest.raises(ConfigError, match="no frame with token 'nowhere'"):
        page(inputs, tmp_path / "out", report.Config(frame="nowhere"))
