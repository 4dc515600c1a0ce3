"""From nothing to a report by the command line, on a small synthetic world; and then again, which builds nothing."""

from pathlib import Path

import pytest

from lima_core.stores.scores import read_scores
from tests.small_experiment import lima, write_experiment


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Config, work folder and output of a whole run."""
    folder = tmp_path_factory.mktemp("small")
    config, work = write_experiment(folder), folder / "work"
    done = lima("run", config, "--work", work)
    assert done.returncode == 0, done.stderr
    return config, work, done.stdout


def test_the_run_ends_with_scores_and_a_report(finished: tuple[Path, Path, str]) -> None:
    _, work, out = finished
    (page,) = work.glob("report-*/report.html")
    assert page.name in out.splitlines()[-1] or "report" in out
    scores = [score for path in work.glob("evaluate-*") for score in read_scores(path)]
    means = {(s.protocol, s.init, s.ratio, s.evaluator.split()[0]): s.value for s in scores if s.metric == "miou"}
    expected = {(p, i, r) for p, r in (("linear_probe", 1.0), ("finetune", 0.01)) for i in ("random", "pretrained")}
    assert {key[:3] for key in means} == expected and {key[3] for key in means} == {"lima", "nuscenes-devkit"}
    for key in expected:
        assert means[*key, "lima"] == pytest.approx(means[*key, "nuscenes-devkit"], abs=1e-9)


def test_the_second_run_builds_nothing(finished: tuple[Path, Path, str]) -> None:
    config, work, _ = finished
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file() and ".lock" not in path.name}
    again = lima("run", config, "--work", work)
    assert again.returncode == 0, again.stderr
    assert "started" not in again.stdout and "cached" in again.stdout
    assert before == {
        path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file() and ".lock" not in path.name
    }


def test_a_changed_field_rebuilds_what_depends_on_it_and_says_why(finished: tuple[Path, Path, str]) -> None:
    config, work, _ = finished
    planned = lima("plan", config, "--work", work, "--set", "build_memory.voxel_size_m=0.5")
    assert planned.returncode == 0, planned.stderr
    rows = {
        line.split()[0].rsplit("-", 1)[0]: line
        for line in planned.stdout.splitlines()
        if " build " in line or " cached" in line
    }
    assert "config.voxel_size_m: 0.4 -> 0.5" in rows["build-memory"]
    assert " cached" in rows["extract-features"] and " build " in rows["distill-seed0"]
