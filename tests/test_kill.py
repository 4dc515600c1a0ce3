"""kill -9 in the middle of every stage; what comes out in the end is byte for byte what an undisturbed run writes."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.small_experiment import data_of, lima, start_lima, write_experiment

pytestmark = pytest.mark.slow
KINDS = ("synth", "index", "extract-features", "build-memory", "distill", "probe", "finetune", "evaluate", "report")


def under_way(work: Path) -> str | None:
    """Kind of the stage that is being built and has begun to write."""
    for partial in work.glob("*.partial"):
        if any(partial.iterdir()):
            return next(kind for kind in KINDS if partial.name.startswith(kind))
    return None


def kill_in(process: subprocess.Popen[str], work: Path, killed: dict[str, int]) -> bool:
    """Kills the run in the first stage that was not killed yet; False if it ended before."""
    while process.poll() is None:
        kind = under_way(work)
        if kind is not None and kind not in killed:
            time.sleep(0.05 * len(killed))
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            killed[kind] = len(list(work.glob("*.partial")))
            return True
        time.sleep(0.002)
    return False


def test_killed_in_every_stage_the_artifacts_are_the_same(tmp_path: Path) -> None:
    config = write_experiment(tmp_path)
    whole = lima("run", config, "--work", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    killed: dict[str, int] = {}
    for _ in range(3 * len(KINDS)):
        process = start_lima("run", config, "--work", tmp_path / "killed")
        if not kill_in(process, tmp_path / "killed", killed):
            _, errors = process.communicate()
            assert process.returncode == 0, errors
            break
    print("killed in", ", ".join(killed))
    assert len(killed) >= 7, killed
    expected, found = data_of(tmp_path / "whole"), data_of(tmp_path / "killed")
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
