"""The benchmark of an epoch runs, and what it compares trains on the same samples."""

import json
from pathlib import Path

import pytest

from benchmarks import bench_epoch


@pytest.mark.slow
def test_all_sources_teach_the_same_student_in_turn(tmp_path: Path) -> None:
    out = tmp_path / "epoch.json"
    result = bench_epoch.main(["--tiny", "--rounds", "2", "--teacher-rounds", "1", "--out", str(out)])
    assert json.loads(out.read_text()) == result and result["samples"] == 4
    plain, mixed = result["cases"]
    caches = [bench_epoch.MEMORY, bench_epoch.REFERENCES, bench_epoch.STORED]
    assert [row["name"] for row in plain["rows"]] == [*caches, bench_epoch.ONE, bench_epoch.SIX]
    assert [row["name"] for row in mixed["rows"]] == caches
    for row in plain["rows"] + mixed["rows"]:
        assert row["steps"] == (2 if "teacher" in row["name"] else 4)
        assert row["wall_s"]["median"] > 0 and row["load_cpu_s"] > 0
    assert plain["rows"][0]["cpu_over_memory"]["median"] == 1.0
    assert plain["rows"][4]["targets_cpu_s"] > plain["rows"][1]["targets_cpu_s"]
