"""The benchmark of preprocessing runs, on a data set of a few small frames."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clusters import ROOT
from tests.lima_core.datasets.tiny_folder import write_tiny_folder


@pytest.mark.slow
def test_it_says_what_every_way_takes(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    write_tiny_folder(tmp_path / "raw")
    words = [str(tmp_path / "raw"), "--image-size-px", "24", "40", "--rounds", "1", "--workers", "2"]
    command = [sys.executable, "-m", "benchmarks.bench_preprocessing", *words, "--out", str(tmp_path / "out.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    ways = ["in process", "1 worker", "2 workers", "cluster"]
    assert [[row["way"] for row in found[name]] for name in ("extract-features", "build-memory", "overhead")] == [
        ways
    ] * 3
    assert all(row["frames_per_s"] > 0 for row in found["build-memory"]) and "pool_first_s" in found["new process"]
    assert str(tmp_path) not in (tmp_path / "out.json").read_text()
