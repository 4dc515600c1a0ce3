"""Contestants in turn, round by round, in one process, so that whatever else the machine does hits all alike.

Even rounds run them in their order, odd rounds backwards, so that none always follows the same one. A first run of
each does not count. What is short is repeated within a round until a measurement lasts ``FLOOR_MS``; whoever takes
longer than ``SLOW_S`` takes part in the first round only, and its memory is not measured on a CPU. Ratios are taken
within a round and then their median: on a shared machine that says more than a ratio of medians.
"""

import gc
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

FLOOR_MS = 20.0
MAX_REPEATS = 200
SLOW_S = 12.0


@dataclass(frozen=True)
class Contestant:
    """One way to do a case's work."""

    name: str
    prepare: Callable[[], Callable[[], object]]
    """Makes ready what is not timed; returns the work."""
    references: tuple[str, ...] = ()
    """Its ratio is taken to the first of these contestants that ran."""
    peak: str = ""
    """The contestant whose rate of arithmetic is the machine's at this precision."""
    flops: int = 0
    """Of one run of the work; 0 where nobody counted."""
    num_bytes: int = 0
    """That one run has to move at least."""
    items: int = 0
    """Samples, points or frames that one run does."""
    times: int = 1
    """How often the whole does this part."""
    memory: bool = False
    """Whether its peak memory is wanted."""
    yardstick: bool = False
    """Whether it runs whoever is left out (``Options.only``): the others are read against it."""
    before: Callable[[], None] = lambda: None
    """What is to be put back before the work is timed."""
    repeats: bool = True
    """Whether short work is repeated within a round."""


@dataclass(frozen=True)
class Case:
    """Contestants that do the same, and what they do it to."""

    title: str
    facts: dict[str, Any]
    contestants: Sequence[Contestant]
    compare: Callable[[dict[str, Any]], dict[str, float]] = field(default=lambda outputs: {})
    """From what each contestant's work returned to how far it is from the definition."""


Cases = Iterable[Case]


@dataclass(frozen=True)
class Options:
    """How much is measured, on what."""

    device: str = "cpu"
    size: str = "full"
    """``full``, ``quick`` (one size, three rounds) or ``tiny`` (for tests that it runs)."""
    only: tuple[str, ...] = ()
    """Contestants' names must begin with one of these, other than yardsticks'; all without."""
    peers: tuple[str, ...] = ()
    """Modules with further contestants (``pipeline.bench.engines.Peer``)."""
    budget_s: float = math.inf
    """No round and no case begins after this."""

    @property
    def rounds(self) -> int:
        """Rounds of a case, unless time runs out."""
        return {"full": 7, "quick": 3, "tiny": 2}[self.size]


@dataclass
class Measured:
    """What came out of a case."""

    times_ms: dict[str, list[float]]
    """By contestant, one time per round; who failed in a round has none."""
    peak_bytes: dict[str, int]
    """Rise of memory in one run, where it is known here: on CUDA."""
    outputs: dict[str, Any]
    failed: dict[str, str]
    """Contestants that could not run, and why."""
    slow_s: dict[str, float] = field(default_factory=dict)
    """Contestants that ran in one round only: how long their first run took."""


def measure(case: Case, options: Options, deadline: float = math.inf) -> Measured:
    """Runs a case.

    Args:
        case: its contestants are prepared here.
        options: device and rounds.
        deadline: of ``time.monotonic``; the first round is always finished.
    """
    measured = Measured({}, {}, {}, {})
    works = _prepared(case.contestants, measured, options.device)
    before = {contestant.name: contestant.before for contestant in case.contestants}
    for number in range(options.rounds):
        if number and time.monotonic() > deadline:
            break
        gc.collect()
        for name in in_turn(list(works), number):
            work, repeats = works[name]
            with _failure_noted(name, measured):
                before[name]()
                spent = timed_ms(work, options.device, repeats)
                measured.times_ms.setdefault(name, []).append(spent)
        works = {name: work for name, work in works.items() if name not in measured.failed | measured.slow_s}
    for name in measured.failed:
        measured.times_ms.pop(name, None)
    return measured


def in_turn(names: Sequence[str], number: int) -> list[str]:
    """The order of a round: forwards in even ones, backwards in odd ones."""
    return list(names) if number % 2 == 0 else list(reversed(names))


def _prepared(
    contestants: Sequence[Contestant], measured: Measured, device: str
) -> dict[str, tuple[Callable[[], object], int]]:
    """Work of every contestant after its first run, and how often a round repeats it; who fails is noted and leaves."""
    works = {}
    for contestant in contestants:
        with _failure_noted(contestant.name, measured):
            work = contestant.prepare()
            contestant.before()
            measured.outputs[contestant.name], peak, first_s = _first_run(work, device)
            if contestant.memory and peak is not None:
                measured.peak_bytes[contestant.name] = peak
            if first_s > SLOW_S:
                measured.slow_s[contestant.name] = first_s
            is_repeated = contestant.repeats and first_s < 1
            works[contestant.name] = work, _repeats(work, device) if is_repeated else 1
    return works


@contextmanager
def _failure_noted(name: str, measured: Measured) -> Iterator[None]:
    """A peer may fail in any way: it is named, with its error, in table and record."""
    try:
        yield
    except Exception as error:
        first_line = (str(error).strip() or "no message").splitlines()[0]
        measured.failed[name] = f"{type(error).__name__}: {first_line}"


def _first_run(work: Callable[[], object], device: str) -> tuple[object, int | None, float]:
    """What the work returns, how far it raised CUDA's memory, seconds; on CUDA of a second run, with all compiled."""
    started, output = time.monotonic(), work()
    if not device.startswith("cuda"):
        return output, None, time.monotonic() - started
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    started, output = time.monotonic(), work()
    torch.cuda.synchronize(device)
    return output, torch.cuda.max_memory_allocated(device) - before, time.monotonic() - started


def _repeats(work: Callable[[], object], device: str) -> int:
    return min(MAX_REPEATS, max(1, math.ceil(FLOOR_MS / max(timed_ms(work, device, 1), 1e-3))))


def timed_ms(work: Callable[[], object], device: str, repeats: int) -> float:
    """Milliseconds of one run, the mean of ``repeats`` back to back; on CUDA by events, once all else is done."""
    if not device.startswith("cuda"):
        started = time.perf_counter()
        for _ in range(repeats):
            work()
        return 1e3 * (time.perf_counter() - started) / repeats
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize(device)
    first.record()
    for _ in range(repeats):
        work()
    last.record()
    torch.cuda.synchronize(device)
    return first.elapsed_time(last) / repeats


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {"median": float(middle), "q1": float(low), "q3": float(high)}


def row(contestant: Contestant, measured: Measured) -> dict[str, Any]:
    """One contestant's line of the record: its times, and what follows from them."""
    name, times = contestant.name, measured.times_ms[contestant.name]
    line: dict[str, Any] = {"name": name, "rounds": len(times), "ms": spread(times)}
    if contestant.times > 1:
        line["times"] = contestant.times
    if contestant.flops:
        line |= {"gflop": contestant.flops / 1e9, "gflop_per_s": contestant.flops / 1e6 / line["ms"]["median"]}
    if contestant.num_bytes:
        line |= {"mb": contestant.num_bytes / 1e6, "gb_per_s": contestant.num_bytes / 1e6 / line["ms"]["median"]}
    if contestant.items:
        line |= {"items": contestant.items, "items_per_s": 1e3 * contestant.items / line["ms"]["median"]}
    if name in measured.peak_bytes:
        line["peak_bytes"] = measured.peak_bytes[name]
    if reference := next((other for other in contestant.references if other in measured.times_ms), ""):
        ratios = [other / own for other, own in zip(measured.times_ms[reference], times, strict=False)]
        line["faster_than"] = {"name": reference, **spread(ratios)}
    return line


def share_of_peak(contestant: Contestant, peak: Contestant, measured: Measured) -> float:
    """Rate of arithmetic as a part of the machine's own, the median over rounds in which both ran."""
    pairs = zip(measured.times_ms[peak.name], measured.times_ms[contestant.name], strict=False)
    return spread([(contestant.flops / own) / (peak.flops / best) for best, own in pairs])["median"]


def rows(case: Case, measured: Measured) -> list[dict[str, Any]]:
    """The lines of all contestants that ran, in their order."""
    by_name = {contestant.name: contestant for contestant in case.contestants}
    deviations = case.compare(measured.outputs)
    lines = []
    for contestant in case.contestants:
        if contestant.name not in measured.times_ms:
            continue
        line = row(contestant, measured)
        if contestant.flops and contestant.peak in measured.times_ms:
            line["share_of_mm"] = share_of_peak(contestant, by_name[contestant.peak], measured)
        if contestant.name in deviations:
            line["deviation"] = deviations[contestant.name]
        lines.append(line)
    return lines
