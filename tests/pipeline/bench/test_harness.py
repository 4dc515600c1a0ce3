import time
from collections.abc import Callable

import pytest

from pipeline.bench import harness
from pipeline.bench.harness import Case, Contestant, Measured, Options, in_turn, measure, row, rows


def calling(log: list[str], name: str) -> Contestant:
    return Contestant(name, lambda: lambda: log.append(name))


def case(*contestants: Contestant, compare: Callable = lambda outputs: {}) -> Case:
    return Case("a case", {}, contestants, compare)


def test_rounds_run_in_turn_forwards_and_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "_repeats", lambda work, device: 1)
    log: list[str] = []
    measured = measure(case(*(calling(log, name) for name in "abc")), Options(size="quick"))
    assert "".join(log) == "abc" + "abc" + "cba" + "abc"  # once to warm up, then three rounds
    assert {name: len(times) for name, times in measured.times_ms.items()} == {"a": 3, "b": 3, "c": 3}
    assert in_turn(["a", "b", "c"], 1) == ["c", "b", "a"]


def test_short_work_is_repeated_within_a_round() -> None:
    log: list[str] = []
    measure(case(calling(log, "a")), Options(size="tiny"))
    assert len(log) == 2 + 2 * harness.MAX_REPEATS
    slow = Contestant("slow", lambda: lambda: time.sleep(harness.FLOOR_MS / 1e3) or log.append("slow"))
    log.clear()
    measured = measure(case(slow), Options(size="tiny"))
    assert len(log) == 2 + 2
    assert min(measured.times_ms["slow"]) >= harness.FLOOR_MS


def test_what_is_put_back_before_the_work_is_not_timed() -> None:
    log: list[str] = []
    before = lambda: (time.sleep(0.03), log.append("b"))  # noqa: E731
    one = Contestant("a", lambda: lambda: log.append("w"), before=before, repeats=False)
    measured = measure(case(one), Options(size="quick"))
    assert "".join(log) == "bw" * 4
    assert max(measured.times_ms["a"]) < 25


def test_the_first_round_is_finished_and_none_begins_late() -> None:
    measured = measure(case(calling([], "a"), calling([], "b")), Options(size="full"), deadline=time.monotonic() - 1)
    assert {name: len(times) for name, times in measured.times_ms.items()} == {"a": 1, "b": 1}


def test_who_fails_is_named_and_the_others_go_on() -> None:
    def broken() -> Callable[[], object]:
        raise RuntimeError("no such kernel\nand more")

    measured = measure(case(Contestant("bad", broken), calling([], "good")), Options(size="tiny"))
    assert measured.failed == {"bad": "RuntimeError: no such kernel"}
    assert list(measured.times_ms) == ["good"]
    assert [line["name"] for line in rows(case(Contestant("bad", broken), calling([], "good")), measured)] == ["good"]


def test_who_fails_in_a_round_is_named_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "_repeats", lambda work, device: 1)
    left = iter([None, None])  # the first run and the first round
    tired = Contestant("tired", lambda: lambda: next(left))
    both = case(tired, calling([], "good"))
    measured = measure(both, Options(size="quick"))
    assert measured.failed == {"tired": "StopIteration: no message"}
    assert {name: len(times) for name, times in measured.times_ms.items()} == {"good": 3}
    assert [line["name"] for line in rows(both, measured)] == ["good"]


def test_who_is_slow_runs_in_the_first_round_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "SLOW_S", 0.02)
    slow = Contestant("slow", lambda: lambda: time.sleep(0.03), references=("quick",))
    both = case(slow, calling([], "quick"))
    measured = measure(both, Options(size="tiny"))
    assert list(measured.slow_s) == ["slow"] and measured.slow_s["slow"] >= 0.03
    lines = rows(both, measured)
    assert [line["rounds"] for line in lines] == [1, 2]
    (first, _), (alone,) = measured.times_ms["quick"], measured.times_ms["slow"]
    assert lines[0]["faster_than"]["median"] == pytest.approx(first / alone)


def test_ratios_are_taken_within_rounds() -> None:
    times = {"peer": [10.0, 100.0, 30.0], "ours": [5.0, 20.0, 30.0], "mm": [1.0, 2.0, 3.0]}
    ours = Contestant("ours", lambda: lambda: None, references=("gone", "peer", "mm"), peak="mm", flops=10, items=4)
    peer = Contestant("peer", lambda: lambda: None)
    mm = Contestant("mm", lambda: lambda: None, flops=8)
    lines = {line["name"]: line for line in rows(case(ours, peer, mm), Measured(times, {"ours": 7}, {}, {}))}
    assert lines["ours"]["faster_than"] == {"name": "peer", "median": 2.0, "q1": 1.5, "q3": 3.5}
    assert lines["ours"]["ms"] == {"median": 20.0, "q1": 12.5, "q3": 25.0}
    assert lines["ours"]["items_per_s"] == 200.0
    # (10 / own) / (8 / mm) is 0.25, 0.125, 0.125
    assert lines["ours"]["share_of_mm"] == pytest.approx(0.125)
    assert lines["ours"]["peak_bytes"] == 7
    assert "faster_than" not in lines["peer"]


def test_a_missing_reference_gives_no_ratio() -> None:
    alone = Contestant("alone", lambda: lambda: None, references=("absent",))
    assert "faster_than" not in row(alone, Measured({"alone": [1.0]}, {}, {}, {}))


def test_outputs_are_compared() -> None:
    one, two = (Contestant(str(value), lambda value=value: lambda: value) for value in (1, 2))
    compared = case(one, two, compare=lambda outputs: {"2": float(outputs["2"] - outputs["1"])})
    assert rows(compared, measure(compared, Options(size="tiny")))[1]["deviation"] == 1.0
