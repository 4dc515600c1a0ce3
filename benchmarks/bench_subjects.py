"""Subjects of ``lima bench`` under pytest-benchmark, one contestant at a time.

pytest -n 0 benchmarks/bench_subjects.py --benchmark-enable [--benchmark-compare]

``lima bench`` runs contestants in turn, which is fairer between them; this is for comparing two commits. Without
``--benchmark-enable`` every contestant runs once, at a tiny size.
"""

from collections.abc import Callable

import pytest

from lima_core.sparse import engine_native
from pipeline.bench import subject_module
from pipeline.bench.harness import Options

CONTESTANTS = (
    ("engines", f"{engine_native.NAME} fp32"),
    ("engines", f"{engine_native.NAME} bf16"),
    ("layers", "kernel maps"),
    ("step", "fp32, 1 thread"),
    ("loader", "loader, no thread"),
    ("projection", "lima"),
    ("bank", "bank to targets"),
)


@pytest.mark.parametrize(("subject", "name"), CONTESTANTS)
def test_contestant(subject: str, name: str, benchmark: Callable, request: pytest.FixtureRequest) -> None:
    """It runs, and is timed where that is asked for."""
    enabled = request.config.getoption("benchmark_enable")
    cases = subject_module(subject).cases(Options(size="quick" if enabled else "tiny"))
    contestant = next(contestant for contestant in next(cases).contestants if contestant.name == name)
    benchmark(contestant.prepare())
    cases.close()
