import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from lima_core.errors import ConfigError, StoreError
from pipeline import cli
from pipeline.bench import harness, memory, subject_module, text
from pipeline.bench import record as records
from pipeline.bench.harness import Case, Contestant, Options
from pipeline.bench.record import checked, note, run

COMMIT = "0123456789abcdef"
ROW_KEYS = {"name", "rounds", "ms"}


def toy(*titles: str) -> SimpleNamespace:
    def cases(options: Options) -> Iterator[Case]:
        for title in titles:
            work = Contestant("ours", lambda: lambda: None, references=("peer",), items=2)
            bad = Contestant("bad", lambda: lambda: 1 / 0)
            copy = Contestant("copy", lambda: lambda: None, yardstick=True)
            yield Case(title, {"voxels": 7}, [work, Contestant("peer", lambda: lambda: None), bad, copy])

    return SimpleNamespace(
        __name__="toy",
        cases=cases,
        absent=lambda options: {"other": "not installed"},
        said=lambda cases, device: ["So."],
    )


def test_a_record_says_what_ran_where_and_how_it_ended(tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    record = run("toy", toy("first", "second"), Options(size="tiny"), out, lambda line: None)
    assert json.loads(out.read_text()) == record
    assert checked(record, out)["schema"] == records.SCHEMA
    assert {"cpu", "num_cores", "gpu", "num_threads", "commit", "dirty", "command", "packages"} <= record[
        "provenance"
    ].keys()
    assert record["provenance"]["packages"]["torch"]
    assert len(record["load_average"]) == 3
    assert record["absent"] == {"other": "not installed"} and record["said"] == ["So."]
    assert [case["title"] for case in record["cases"]] == ["first", "second"]
    assert "cut_short" not in record
    case = record["cases"][0]
    assert case["failed"] == {"bad": "ZeroDivisionError: division by zero"}
    assert all(row.keys() >= ROW_KEYS for row in case["rows"])
    assert case["rows"][0]["faster_than"].keys() == {"name", "median", "q1", "q3"}


def test_time_that_is_up_cuts_between_cases_and_is_told() -> None:
    record = run("toy", toy("first", "second"), Options(size="tiny", budget_s=0.0), None, lambda line: None)
    assert [case["title"] for case in record["cases"]] == ["first"]
    assert record["cut_short"] == "time was up before second"
    assert "time was up before second" in text.as_text(record)


def test_what_is_on_disk_after_an_interruption_is_what_was_measured(tmp_path: Path) -> None:
    def cases(options: Options) -> Iterator[Case]:
        yield from toy("first").cases(options)
        raise KeyboardInterrupt

    out = tmp_path / "record.json"
    with pytest.raises(KeyboardInterrupt):
        run("toy", SimpleNamespace(__name__="toy", cases=cases), Options(size="tiny"), out, lambda line: None)
    record = json.loads(out.read_text())
    assert [case["title"] for case in record["cases"]] == ["first"]
    assert record["cut_short"] == "ended before all cases were measured"


def test_only_those_asked_for_run_and_the_yardsticks() -> None:
    record = run("toy", toy("first"), Options(size="tiny", only=("ou",)), None, lambda line: None)
    (case,) = record["cases"]
    assert [row["name"] for row in case["rows"]] == ["ours", "copy"] and case["failed"] == {}
    assert record["only"] == ["ou"] and "only ou" in text.as_text(record).splitlines()[0]
    for unknown in ("per", "copy"):
        with pytest.raises(ConfigError, match=f"--only: no contestant begins with '{unknown}'.*known: bad, ours, peer"):
            run("toy", toy("first"), Options(size="tiny", only=("ours", unknown)), None, lambda line: None)


def test_edited_files_are_told() -> None:
    assert note({"commit": COMMIT, "dirty": True}) == "measured with files that were edited after commit 0123456"
    assert note({"commit": COMMIT, "dirty": False}) == ""
    assert note({"commit": None, "dirty": None}) == "commit unknown: not a git checkout"


def test_a_told_commit_is_no_substitute_for_a_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"commit": "beef", "dirty": True, "packages": {}}
    monkeypatch.setattr(records, "provenance", lambda resources: dict(known))
    record = run("toy", toy(), Options(size="tiny"), None, lambda line: None, commit=COMMIT)
    assert record["provenance"]["commit"] == "beef" and "edited" in record["note"]
    known |= {"commit": None, "dirty": None}
    record = run("toy", toy(), Options(size="tiny"), None, lambda line: None, commit=COMMIT)
    assert record["provenance"]["commit"] == COMMIT and record["note"] == "commit as told on the command line"


def test_tables_have_no_empty_column_and_say_what_failed() -> None:
    record = run("toy", toy("first"), Options(size="tiny"), None, lambda line: None)
    page = text.as_markdown(record)
    assert "| contestant | median ms | quartiles | rounds | speed | items/s |" in page
    assert "bad: ZeroDivisionError" in page and "Not here: other (not installed)" in page and "So." in page
    lines = text.as_text(record).splitlines()
    assert any(line.startswith("ours") and " x peer" in line for line in lines)
    if record["note"]:
        assert record["note"] in lines[0]


def test_who_is_slow_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "SLOW_S", 0.0)
    asked: list[str] = []
    monkeypatch.setattr(memory, "peaks", lambda module, case, *rest: (asked.extend(case.contestants) or {}, {}))
    record = run("toy", toy("first"), Options(size="tiny"), None, lambda line: None)
    assert record["cases"][0]["slow"].keys() == {"ours", "peer", "copy"}
    assert [contestant.name for contestant in asked] == ["bad"]
    assert "peer: one round only, a run takes 0 s" in text.as_text(record)


def test_other_files_are_no_records() -> None:
    with pytest.raises(StoreError, match="not a record of schema lima-bench/1"):
        checked({"rows": []}, "x.json")


def test_an_unknown_subject_is_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="did you mean 'engines'"):
        subject_module("engine")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["bench", "engine"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("lima: lima bench: unknown subject 'engine'")
