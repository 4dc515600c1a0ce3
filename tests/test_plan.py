"""What the plan says against what is then used, on a world of the demo's making."""

import json
from pathlib import Path

import pytest

from benchmarks.bench_plan import CLOCKS, compare
from lima_core.types import Resources
from tests.small_experiment import EXPERIMENT, lima, write_experiment

DISK, TIME = 0.15, 0.30
"""What the plan promises."""
NOISE = 0.30
"""And what is granted to a machine that is shared, although processor time is compared."""
LEAST_S = 2.0
"""Stages that are shorter are compared in their sum only."""


def test_a_run_says_what_it_takes_and_a_calibration_makes_it_known(tmp_path: Path) -> None:
    config, work = write_experiment(tmp_path), tmp_path / "work"
    before = lima("plan", config, "--work", work)
    assert before.returncode == 0, before.stderr
    rows = [line for line in before.stdout.splitlines() if " build " in line]
    assert len(rows) == 14 and all("rule of thumb" in row for row in rows)
    assert "lima plan --calibrate" in before.stdout and not work.exists()
    refused = lima("plan", config, "--work", work, "--set", f"data_root={tmp_path}/absent", "--calibrate")
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1


@pytest.mark.slow
def test_plan_and_truth_on_a_larger_world(tmp_path: Path) -> None:
    sizes = {"num_train_scenes": 6, "num_val_scenes": 2, "frames_per_scene": 16}
    longer = {"synth": EXPERIMENT["synth"] | sizes, "distill": EXPERIMENT["distill"] | {"fit": {"steps": 60}}}
    (tmp_path / "larger.yaml").write_text(json.dumps(EXPERIMENT | longer))
    rows = compare(tmp_path / "larger.yaml", [], Resources(), CLOCKS[True])
    assert len(rows) == 14
    for row in rows:
        planned, used = row["planned"], row["used"]
        assert planned["disk_bytes"] == pytest.approx(used["disk_bytes"], rel=DISK), row
        if used["seconds"] > LEAST_S:
            assert planned["seconds"] == pytest.approx(used["seconds"], rel=TIME + NOISE), row
    planned, used = ([row[kind]["seconds"] for row in rows] for kind in ("planned", "used"))
    assert sum(planned) == pytest.approx(sum(used), rel=TIME)
