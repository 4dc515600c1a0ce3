"""Every subject runs at a tiny size, and what it says is true."""

import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from lima_core.geometry.camera import project
from lima_core.methods.losses import unit_distance
from pipeline.bench import bank, drive, engines, layers, loader, machine, memory, projection, step
from pipeline.bench.harness import Case, Contestant, Options
from pipeline.bench.record import run
from pipeline.bench.street import street_batch, street_voxels
from tests.pipeline.bench import toy_subject

TINY = Options(size="tiny")
PEERS = ("tests.pipeline.bench.toy_peer", "tests.pipeline.bench.absent_peer")


@pytest.fixture(scope="module")
def made() -> Iterator[drive.Drive]:
    with drive.made_drive(tiny=True) as made:
        yield made


@pytest.fixture(autouse=True)
def no_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is measured in a test of its own: a process costs seconds."""
    monkeypatch.setattr(memory, "peaks", lambda module, case, options, deadline: ({}, {}))


def test_streets_differ_and_have_their_size() -> None:
    assert 15_000 < len(street_voxels(0.1)) < 25_000
    assert round(len(street_voxels(0.05, num_beams=64)) / 1e3) == 59
    coords, features = street_batch(1.5, 8, 3)
    assert len(coords) == len(features) and coords.dtype == torch.int32
    parts = [coords[coords[:, 0] == scan, 1:] for scan in range(3)]
    assert len({len(part) for part in parts}) > 1
    assert torch.equal(parts[1], street_voxels(1.5, num_beams=8, seed=1)[:, 1:])


def test_engines_and_peers_run_beside_the_machine() -> None:
    record = run("engines", engines, replace(TINY, peers=PEERS), None, lambda line: None)
    (case,) = record["cases"]
    assert case["failed"] == {}
    lines = {row["name"]: row for row in case["rows"]}
    assert {"native fp32", "native bf16", "toy peer fp32", "torch.mm fp32", "torch.mm bf16", "copy"} <= lines.keys()
    assert "toy peer bf16" not in lines
    assert record["absent"]["absent peer"] == "not installed for cpu"
    assert 0 < lines["native bf16"]["deviation"] < 0.1
    assert "deviation" not in lines["toy peer fp32"]
    assert lines["native fp32"]["gflop"] * 1e9 == lines["native bf16"]["gflop"] * 1e9 > 1e6
    assert {"share_of_mm", "faster_than"} <= lines["toy peer fp32"].keys()
    assert record["said"][0].startswith("engine auto takes native here")


def test_an_engine_is_compared_with_the_preferred_one_at_its_precision() -> None:
    first = lambda *names: next(name for name in engines.references("bf16") if name in names)  # noqa: E731
    names = ["native fp32", "native bf16", "spconv fp32"]
    assert first(*names) == "spconv fp32"
    assert first(*names, "spconv bf16") == "spconv bf16"
    assert first("native bf16", "native fp32") == "native fp32"


def test_auto_is_told_when_it_was_not_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    rows_of = lambda native, other: [  # noqa: E731
        {"name": "native fp32", "ms": {"median": native}},
        {"name": "spconv fp32", "ms": {"median": other}},
    ]
    cases = [{"title": "a", "rows": rows_of(30.0, 10.0)}, {"title": "b", "rows": rows_of(1.0, 2.0)}]
    (line,) = engines.said(cases, "cpu")
    assert line.endswith("(a: spconv was 3.00 times as fast; b: the fastest)")


def test_every_kind_of_layer_runs() -> None:
    record = run("layers", layers, TINY, None, lambda line: None)
    assert [case["facts"]["precision"] for case in record["cases"]] == ["fp32", "bf16"]
    kinds = {"kernel maps", "submanifold", "1x1x1", "strided", "transposed", "norm", "relu"}
    for case in record["cases"]:
        assert case["failed"] == {} and set(case["share_of_whole"]) == kinds


def layer_rows() -> list[dict]:
    """A machine that does 100 GFLOP/s and moves 10 GB/s; one layer needs 50 ms of either, another only bytes."""
    return [
        {"name": "whole pass", "ms": {"median": 800.0}, "gflop": 40.0},
        {"name": "kernel maps", "ms": {"median": 80.0}},
        {"name": "submanifold s1 96->96", "ms": {"median": 100.0}, "times": 4, "gflop": 5.0, "mb": 200.0},
        {"name": "norm s2 32", "ms": {"median": 40.0}, "mb": 300.0},
        {"name": "torch.mm fp32", "ms": {"median": 1.0}, "gflop": 0.1, "gflop_per_s": 100.0},
        {"name": "copy", "ms": {"median": 1.0}, "mb": 10.0, "gb_per_s": 10.0},
    ]


def test_layers_are_bounded_and_add_up() -> None:
    case = {"facts": {"precision": "fp32"}, "rows": layer_rows()}
    layers.finish(case)
    whole, maps, conv, norm, product, copy = case["rows"]
    assert (conv["bound_ms"], conv["share_of_bound"]) == pytest.approx((50.0, 0.5))
    assert (norm["bound_ms"], norm["share_of_bound"]) == pytest.approx((30.0, 0.75))
    assert (maps["share_of_whole"], conv["share_of_whole"], norm["share_of_whole"]) == pytest.approx((0.1, 0.5, 0.05))
    assert case["share_of_whole"] == pytest.approx({"kernel maps": 0.1, "submanifold": 0.5, "norm": 0.05})
    assert not any("bound_ms" in row or "share_of_whole" in row for row in (whole, product, copy))


@pytest.mark.parametrize(
    ("gone", "left"), [("whole pass", "bound_ms"), ("copy", "share_of_whole"), ("torch.mm fp32", "share_of_whole")]
)
def test_a_layer_is_not_read_against_what_failed(gone: str, left: str) -> None:
    case = {"facts": {"precision": "fp32"}, "rows": [row for row in layer_rows() if row["name"] != gone]}
    layers.finish(case)
    conv = next(row for row in case["rows"] if row["name"].startswith("submanifold"))
    assert {"bound_ms", "share_of_whole"} & conv.keys() == {left}


def test_a_step_trains_with_the_loss_of_the_methods() -> None:
    student, target = torch.randn(5, 8), torch.nn.functional.normalize(torch.randn(5, 8), dim=1)
    assert torch.equal(step.unit_distance(student, target), unit_distance(student, target))
    names = [entry[0] for entry in step.entries(TINY)]
    assert names == ["fp32, 1 thread", "fp32, 1 thread, checkpointed", "bf16, 1 thread", "bf16, 1 thread, checkpointed"]
    record = run("step", step, replace(TINY, only=("fp32",)), None, lambda line: None)
    assert record["cases"][0]["failed"] == {}
    assert [row["name"] for row in record["cases"][0]["rows"]][:2] == names[:2]
    case = {"facts": {"voxels": 20_000}, "rows": [{"peak_bytes": 6}, {}]}
    step.finish(case)
    assert case["rows"][0]["peak_per_10k"] == pytest.approx(3.0) and case["rows"][1] == {}


def test_loading_is_compared_with_a_step(made: drive.Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "made_drive", lambda tiny: nullcontext(made))
    record = run("loader", loader, TINY, None, lambda line: None)
    assert record["cases"][0]["failed"] == {}
    lines = {row["name"]: row for row in record["cases"][0]["rows"]}
    assert {row["items"] for name, row in lines.items() if name.startswith("loader")} == {4}
    share = 100 * lines[loader.STEP]["items_per_s"] / lines["loader, no thread"]["items_per_s"]
    assert f"takes {share:.1f} % of the time of a step" in record["said"][0]
    assert loader.said([{"rows": [{"name": loader.STEP, "items_per_s": 1.0}]}], "cpu") == []


def test_projection_sees_what_the_devkit_sees(made: drive.Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "made_drive", lambda tiny: nullcontext(made))
    case = next(projection.cases(TINY))
    ours, theirs = (contestant.prepare()() for contestant in case.contestants)
    assert ours.sum() > 100 and (ours != theirs).mean() < 1e-3
    other = np.zeros_like(ours)
    assert projection.differences({projection.OURS: ours, projection.DEVKIT: other})[projection.OURS] == ours.mean()
    assert project(made.index.frames()[-1], np.zeros((1, 3))).visible.shape == (6, 1)


def test_the_bank_is_read_and_pooled(made: drive.Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank, "made_drive", lambda tiny: nullcontext(made))
    case = next(bank.cases(TINY))
    targets = case.contestants[0].prepare()()
    assert targets.shape == (case.facts["targets"], 8)
    torch.testing.assert_close(targets.norm(dim=1), torch.ones(len(targets)))
    assert torch.equal(targets, case.contestants[-1].prepare()())


def test_precision_is_set_and_set_back() -> None:
    before = torch.get_float32_matmul_precision()
    with machine.at_precision("tf32", "cpu"):
        assert torch.get_float32_matmul_precision() == "high"
    with machine.at_precision("bf16", "cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    assert torch.get_float32_matmul_precision() == before


def test_the_machines_rates_count_what_they_do() -> None:
    *products, copy = machine.contestants(TINY, ("fp32", "bf16"))
    assert [product.flops for product in products] == [2 * 128**3] * 2
    target = copy.prepare()()
    assert copy.num_bytes == 2 * target.numel() * target.element_size()


def test_memory_is_that_of_one_run() -> None:
    rise = memory.peak_rise(Contestant("thirty", toy_subject.prepare))
    assert 28e6 < rise < 45e6


def test_a_case_is_found_again_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which keeps freed memory, as a command does: what the preparation freed does not hide what the run takes."""
    monkeypatch.undo()
    case = list(toy_subject.cases(TINY))[1]
    found, failed = memory.peaks(toy_subject.__name__, case, TINY)
    assert failed == {} and 28e6 < found["thirty"] < 45e6
    assert memory.peaks(toy_subject.__name__, case, TINY, deadline=0.0)[1]["thirty"].endswith("time was up")


def test_memory_that_could_not_be_had_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    died = subprocess.CompletedProcess([], -9, "", "")
    monkeypatch.setattr(memory.subprocess, "run", lambda *words, **options: died)
    case = Case("a", {}, [Contestant("big", lambda: lambda: None, memory=True), Contestant("c", lambda: lambda: None)])
    assert memory.peaks("module", case, TINY) == ({}, {"big": "peak memory: exit status -9"})
