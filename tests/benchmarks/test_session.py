"""The measuring session on a CPU at tiny sizes, so that it cannot rot where no GPU is."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import page, session
from pipeline.bench.record import SCHEMA


def short(monkeypatch: pytest.MonkeyPatch, *parts: tuple[str, float]) -> None:
    monkeypatch.setitem(session.PARTS, "cpu", parts)


def test_a_session_leaves_records_and_prints_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    short(monkeypatch, ("layers", 0.9))
    words = ["--device", "cpu", "--size", "tiny", "--minutes", "2", "--out", str(tmp_path), "--commit", "beef"]
    assert session.main(words) == 0
    (path,) = tmp_path.glob("*_layers.json")
    record = json.loads(path.read_text())
    assert (record["schema"], record["subject"], record["size"]) == (SCHEMA, "layers", "tiny")
    assert 0 < record["budget_s"] <= 108
    printed = capfd.readouterr().out
    assert "kernel maps" in printed and "TROUBLE" not in printed


def test_who_takes_its_process_down_takes_nothing_else_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    short(monkeypatch, ("engines", 0.5), ("step", 0.9))
    python = lambda text: [sys.executable, "-c", text]  # noqa: E731
    crash, alive = python("import os; os.abort()"), python("print('second try')")
    monkeypatch.setattr(session, "commands", lambda of, part, seconds: [crash, alive] if part == "engines" else [alive])
    assert session.main(["--device", "cpu", "--minutes", "1", "--out", str(tmp_path)]) == 1
    printed = capfd.readouterr().out
    assert printed.count("second try\n") == 2
    assert "TROUBLE engines: exit status -6" in printed


def test_time_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    short(monkeypatch, ("engines", 0.5), ("step", 0.9))
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(session, "commands", lambda of, part, seconds: [sleeper, sleeper])
    assert session.main(["--device", "cpu", "--minutes", "0.02", "--out", str(tmp_path)]) == 1
    printed = capfd.readouterr().out
    assert "TROUBLE engines: stopped after 1 s" in printed and "TROUBLE step: no time left" in printed


def test_tests_take_their_share_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short(monkeypatch, ("tests", 0.25), ("step", 0.9))
    limits: list[float] = []
    monkeypatch.setattr(session, "_run_part", lambda command, seconds: (limits.append(seconds) or "", False))
    assert session.run(session.Session("cpu", 4.0, tmp_path, "", "tiny")) == []
    assert limits == pytest.approx([60.0, 240.0], abs=2.0)


def test_only_what_this_session_wrote_is_printed(tmp_path: Path) -> None:
    for name, written in (
        ("m_2026-01-01_step", 100.0),
        ("m_2026-01-02_step", 300.0),
        ("m-native_2026-01-02_step", 301.0),
    ):
        (tmp_path / f"{name}.json").write_text("{}")
        os.utime(tmp_path / f"{name}.json", (written, written))
    (tmp_path / "m_2026-01-02_bank.json").write_text("{}")
    found = session.written(tmp_path, "step", 200.0)
    assert [path.stem for path in found] == ["m-native_2026-01-02_step", "m_2026-01-02_step"]


def test_the_parts_on_a_gpu_are_the_lima_bench_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "gpu_name", lambda device: "NVIDIA H200")
    asked = session.Session("cuda", 8.0, tmp_path, "beef", "full")
    assert [part for part, _ in asked.parts] == ["tests", "engines", "layers", "step"]
    first, second = session.commands(asked, "engines", 90.0)
    assert "benchmarks.peers.spconv_minkunet" in first and "--peer" not in second
    assert second[-2:] == ["--only", "native"]
    files = [Path(command[command.index("--out") + 1]).name.partition("_")[0] for command in (first, second)]
    assert files == ["nvidia-h200", "nvidia-h200-native"]
    assert first[first.index("--minutes") + 1] == "1.500"
    labelled = replace(asked, label="peers", only=("layers",))
    assert labelled.parts == (("layers", session.LAST),)
    assert labelled.file("layers").name.startswith("nvidia-h200-peers_")
    assert asked.file("engines").name.startswith("nvidia-h200_") and asked.file("engines").name.endswith(
        "_engines.json"
    )


def test_the_gpu_tests_that_are_run_can_be_collected() -> None:
    command = [*session.test_command(), "--collect-only"]
    done = subprocess.run(command, cwd=session.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_engines.py" in done.stdout


def test_the_page_shows_the_newest_record_of_each_machine(tmp_path: Path) -> None:
    facts = {"cpu": "a cpu", "gpu": None, "num_cores": 2, "num_threads": 1, "commit": "0123456789", "packages": {}}
    record = {
        "schema": SCHEMA,
        "subject": "bank",
        "provenance": facts,
        "note": "",
        "size": "full",
        "load_average": [0.5],
        "absent": {},
    }
    for number, (name, date) in enumerate((("m_2026-01-02_bank", "2026-01-02"), ("m_2026-01-01_bank", "2026-01-01"))):
        rows = [{"name": "ours", "rounds": 3, "ms": {"median": 10.0 + number, "q1": 1.0, "q3": 20.0}}]
        cases = [{"title": "one", "facts": {}, "rows": rows, "failed": {}}]
        (tmp_path / f"{name}.json").write_text(json.dumps(record | {"date": date, "cases": cases}))
    (tmp_path / "older.json").write_text(json.dumps({"rows": []}))
    text = "before\n<!-- records: bank -->\nold\n<!-- end -->\n<!-- records: step -->\n<!-- end -->\nafter\n"
    done = page.filled(text, sorted(tmp_path.glob("*.json")))
    assert "| ours | 10 | 1 to 20 | 3 |" in done and "| ours | 11" not in done and "old\n" not in done
    assert done.startswith("before\n") and done.endswith("after\n") and done.count("Not measured yet") == 1
    assert page.filled(done, sorted(tmp_path.glob("*.json"))) == done


def test_a_smaller_record_never_takes_the_place_of_a_whole_one(tmp_path: Path) -> None:
    whole = {"schema": SCHEMA, "subject": "step", "size": "full", "only": [], "date": "2026-01-01"}
    later = {"date": "2026-01-02"}
    others = {
        "m_1_step": {},
        "m_2_step": later | {"size": "quick"},
        "m_3_step": later | {"cut_short": "time was up"},
        "m_4_step": later | {"only": ["native"]},
        "n-native_5_step": later | {"only": ["native"]},
        "o_6_step": {"size": "tiny"},
    }
    for name, changes in others.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(whole | changes))
    newest = page.newest_records(sorted(tmp_path.glob("*.json")))
    assert {key[1]: name for key, (name, _) in newest.items()} == {
        "m": "m_1_step.json",
        "n-native": "n-native_5_step.json",
    }


@pytest.mark.parametrize("path", page.PAGES, ids=lambda path: path.name)
def test_the_page_is_that_of_the_records(path: Path) -> None:
    text = path.read_text()
    assert page.filled(text, sorted(page.RESULTS.glob("*.json"))) == text, "run python -m benchmarks.page"
