"""The whole command line under torchrun, two processes on the CPU, against one process."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.small_experiment import data_of, lima, write_experiment

pytestmark = pytest.mark.slow
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "pipeline.cli"]


def lima_of_two(*words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*TORCHRUN, *map(str, words)]
    root = Path(__file__).parents[1]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, timeout=600)


def test_two_processes_build_what_one_builds(tmp_path: Path) -> None:
    config = write_experiment(tmp_path)
    one, two = tmp_path / "one", tmp_path / "two"
    assert lima("stage", "distill", "--config", config, "--work", one).returncode == 0
    done = lima_of_two("stage", "distill", "--config", config, "--work", two)
    assert done.returncode == 0, done.stderr
    lines = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("[")]
    assert lines == ["started", "finished"] * 5
    expected, found = data_of(one), data_of(two)
    assert found.keys() == expected.keys()
    trained = [name for name in expected if name.startswith("distill") and not name.endswith("model.json")]
    assert [name for name in expected if name not in trained and found[name] != expected[name]] == []
    curves = [pq.read_table(next(work.glob("distill-*/curve.parquet"))).to_pydict() for work in (one, two)]
    assert np.allclose(curves[0]["loss"], curves[1]["loss"], rtol=1e-4)
    again = lima_of_two("stage", "distill", "--config", config, "--work", two)
    assert again.returncode == 0 and "started" not in again.stdout


def test_a_mistake_is_told_once(tmp_path: Path) -> None:
    config = write_experiment(tmp_path)
    failed = lima_of_two("run", config, "--work", tmp_path, "--set", "distill.fit.batch_siz=2")
    assert failed.returncode != 0
    assert len([line for line in failed.stderr.splitlines() if line.startswith("lima: ")]) == 1
