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
from pipeline.bench.harness import Case, Contestant, Options, measure, rows
from pipeline.bench.record import run
from pipeline.bench.street import street_batch, street_voxels

TINY = Options(size="tiny")
PEERS = ("tests.pipeline.bench.toy_peer", "tests.pipeline.bench.absent_peer")


@pytest.fixture(scope="module")
def made() -> Iterator[drive.Drive]:
    with drive.made_drive(tiny=True) as made:
        yield made


@pytest.fixture(autouse=True)
def no_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is measured in a test of its own: a process costs seconds."""
    monkeypatch.setattr(memory, "peaks", lambda module, case, options: ({}, {}))


def test_streets_differ_and_have_their_size() -> None:
    assert 15_000 < len(street_voxels(0.1)) < 25_000
    assert 50_000 < len(street_voxels(0.05, num_beams=64)) < 70_000
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
    assert lines["native fp32"]["share_of_mm"] == pytest.approx(
        lines["native fp32"]["gflop_per_s"] / lines["torch.mm fp32"]["gflop_per_s"], rel=0.9
    )
    assert record["said"][0].startswith("engine auto takes native here")


def test_an_engine_is_compared_with_the_preferred_one_at_its_precision() -> None:
    mine = Contestant("native bf16", lambda: lambda: None)
    names = ["native fp32", "native bf16", "spconv fp32"]
    assert engines.replace_reference(mine, names).reference == "spconv fp32"
    assert engines.replace_reference(mine, [*names, "spconv bf16"]).reference == "spconv bf16"
    assert engines.replace_reference(mine, ["native bf16", "native fp32"]).reference == "native fp32"
    assert engines.replace_reference(mine, []).reference == ""


def test_auto_is_told_when_it_was_not_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    rows_of = lambda native, other: [  # noqa: E731
        {"name": "native fp32", "ms": {"median": native}},
        {"name": "spconv fp32", "ms": {"median": other}},
    ]
    cases = [{"title": "a", "rows": rows_of(30.0, 10.0)}, {"title": "b", "rows": rows_of(1.0, 2.0)}]
    (line,) = engines.said(cases, "cpu")
    assert line.endswith("(a: spconv was 3.00 times as fast; b: the fastest)")


def test_layers_are_bounded_and_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(layers.cases(TINY))
    measured = measure(case, TINY)
    assert measured.failed == {}
    line = {"facts": case.facts, "rows": rows(case, measured)}
    layers.finish(line)
    by_name = {row["name"]: row for row in line["rows"]}
    conv = next(row for name, row in by_name.items() if name.startswith("submanifold s1"))
    peak, bandwidth = by_name["torch.mm fp32"]["gflop_per_s"], by_name["copy"]["gb_per_s"]
    assert conv["bound_ms"] == pytest.approx(max(conv["gflop"] / peak, conv["mb"] / 1e3 / bandwidth) * 1e3)
    assert conv["share_of_bound"] == pytest.approx(conv["bound_ms"] / conv["ms"]["median"])
    total = sum(row["share_of_whole"] for row in line["rows"] if "share_of_whole" in row)
    assert sum(line["share_of_whole"].values()) == pytest.approx(total)
    assert set(line["share_of_whole"]) == {
        "kernel maps",
        "submanifold",
        "1x1x1",
        "strided",
        "transposed",
        "norm",
        "relu",
    }


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
    def prepare() -> object:
        kept = np.ones(50_000_000, dtype=np.uint8)
        return lambda: float(np.ones(30_000_000, dtype=np.uint8).sum() + kept[0])

    rise = memory.peak_rise(Contestant("a", prepare))
    assert 28e6 < rise < 45e6


def test_a_case_is_found_again_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    case = Case("tiny, batch 2", {}, [Contestant("native fp32", lambda: lambda: None, memory=True)])
    found, failed = memory.peaks("pipeline.bench.engines", case, TINY)
    assert failed == {} and 1e4 < found["native fp32"] < 5e8


def test_memory_that_could_not_be_had_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    died = subprocess.CompletedProcess([], -9, "", "")
    monkeypatch.setattr(memory.subprocess, "run", lambda *words, **options: died)
    case = Case("a", {}, [Contestant("big", lambda: lambda: None, memory=True), Contestant("c", lambda: lambda: None)])
    assert memory.peaks("module", case, TINY) == ({}, {"big": "peak memory: exit status -9"})
