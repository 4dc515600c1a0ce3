"""What commands that build do around the runner: tell the cost, ask the cluster, start all ranks, say what came out."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lima_core.errors import StoreError

if TYPE_CHECKING:
    from lima_core.cost import Cost
    from lima_core.storage import Location
    from lima_core.types import Resources
    from pipeline.ablation import Study
    from pipeline.integrity.verify import Verified
    from pipeline.node import Node
    from pipeline.planning import Step
    from pipeline.ranks import Ranks

INTERRUPTED = 130


def build(
    targets: "Sequence[Node]",
    work: "Location",
    device: str,
    engine: str,
    workers: int | None,
    wait: bool,
    recompute: bool = False,
    force: bool = False,
    scheduler: str | None = None,
) -> None:
    """Builds the targets; of several processes the first does, and the others end here, when all is done."""
    from pipeline.hardware import resources
    from pipeline.ranks import leave, shared
    from pipeline.runner import follow, run

    ranks = own_ranks()
    if ranks.leads:
        _print_missing(targets, work)
    try:
        whole = shared(lambda device, workers: resources(device, engine, workers, say), ranks, device, workers)
        whole = replace(whole, checkpoint_activations=recompute, scheduler=scheduler, on_cpus=device == "cpu")
        if ranks.leads:
            work = as_workers_see(work, targets, whole)
            tell_cost(targets, work, whole, wait, force)
            run(targets, work, whole, wait=wait, say=say, announce=ranks.announce)
        else:
            follow(targets, work, whole, ranks.announced())
        leave(ranks)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    if not ranks.leads:
        raise typer.Exit


def _print_missing(targets: "Sequence[Node]", work: "Location") -> None:
    from pipeline.disk import told_in_one_line
    from pipeline.planning import plan

    with told_in_one_line(work):
        missing = [step.node for step in plan(targets, work) if step.state != "cached" and step.node not in targets]
    if missing:
        print(f"upstream to build first: {', '.join(node.name for node in missing)}", flush=True)


def as_workers_see(work: "Location", targets: "Sequence[Node]", resources: "Resources") -> Path:
    """The work folder by a path that holds elsewhere, after the workers of a scheduler have shown that they see it."""
    if resources.scheduler is None:
        return work
    from pipeline.cluster import check
    from pipeline.disk import told_in_one_line

    with told_in_one_line(work):
        say(check(resources.scheduler, work.absolute(), targets))
    return work.absolute()


def tell_cost(
    targets: "Sequence[Node]", work: "Location", resources: "Resources", wait: bool, force: bool, jobs: int | None = 1
) -> "tuple[list[Step], list[Cost | None]]":
    """Says what a run will take before it starts, and refuses one that the disk cannot hold.

    The index is built first where nothing can be told without it; what was then planned is returned.
    """
    from pipeline.runner import run

    steps, costs = _tell_cost(targets, work, resources, force, jobs)
    waiting = [(step.node, cost) for step, cost in zip(steps, costs, strict=True) if step.state != "cached"]
    index = [node for node, cost in waiting if node.kind == "index" and cost is None]
    if not index or len(index) == len(waiting):
        return steps, costs
    run(index, work, resources, wait=wait, say=say)
    return _tell_cost(targets, work, resources, force, jobs)


def _tell_cost(
    targets: "Sequence[Node]", work: "Location", resources: "Resources", force: bool, jobs: int | None
) -> "tuple[list[Step], list[Cost | None]]":
    from pipeline.disk import told_in_one_line
    from pipeline.jobs import share
    from pipeline.plan_text import require_room, total_text
    from pipeline.planning import plan

    with told_in_one_line(work):
        steps = plan(targets, work)
        if all(step.state == "cached" for step in steps):
            return steps, [None] * len(steps)
        costs, on = costs_at_work(steps, work, resources)
        jobs = jobs or num_jobs(costs, resources)
        if jobs > 1:
            costs, on = costs_at_work(steps, work, share(resources, jobs))
        say(total_text(steps, costs, work, jobs) + on)
        if not force:
            require_room(steps, costs, work, jobs)
    return steps, costs


def costs_at_work(steps: "Sequence[Step]", work: "Location", resources: "Resources") -> "tuple[list[Cost | None], str]":
    """Costs with the workers that a run will have, and what to say about them.

    The time is that of a cluster's threads, each taken to be as fast as one of this machine; the memory is that of this
    machine, on which one process is left.
    """
    from pipeline.cost_model.estimate import estimates

    if resources.scheduler is None:
        return estimates(steps, work, resources), ""
    from lima_core.cluster import num_threads

    threads = num_threads(resources.scheduler)
    there = estimates(steps, work, replace(resources, workers=max(1, threads)))
    here = estimates(steps, work, replace(resources, workers=1))
    costs = [cost and replace(cost, memory_bytes=own.memory_bytes) for cost, own in zip(there, here, strict=True)]
    return costs, f"; scenes on {threads} thread{'s' * (threads != 1)} of the cluster, whose memory is not counted"


def num_jobs(costs: "Sequence[Cost | None]", resources: "Resources") -> int:
    """Artifacts to build at a time, where nobody said."""
    from pipeline.hardware import default_jobs

    return default_jobs(resources.device, [cost.memory_bytes for cost in costs if cost and cost.memory_bytes])


def ablate(study: "Study", work: "Location", whole: "Resources", jobs: int | None, wait: bool, force: bool) -> None:
    """Builds all arms; prints the table after every seed that is complete, and where the page is."""
    from pipeline import jobs as side_by_side
    from pipeline.ablation_text import Progress, result_text

    progress = Progress(study, work, say)
    try:
        steps, costs = tell_cost(study.targets, work, whole, wait, force, jobs)
        jobs = jobs or num_jobs(costs, whole)
        say(f"{jobs} artifact{'s' * (jobs != 1)} at a time, {os.environ.get('OMP_NUM_THREADS')} threads each")
        side_by_side.run(
            steps,
            work,
            side_by_side.share(whole, jobs),
            jobs,
            wait=wait,
            say=say,
            after=progress.finished,
            marks=study.arms_of(),
        )
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    say(result_text(study, study.seeds, work))
    page = study.result(study.seeds).path(work)
    say(f"numbers: {page / 'ablation.parquet'}\nmarkdown: {page / 'ablation.md'}\npage: {page / 'ablation.html'}")


def repair(
    found: "Verified",
    nodes: "Sequence[Node]",
    work: "Location",
    wanted: tuple[str, str, int | None],
    wait: bool,
    scheduler: str | None = None,
) -> None:
    """Rebuilds what ``found`` says is damaged, and checks it again."""
    from pipeline.hardware import resources
    from pipeline.integrity.checks import check
    from pipeline.integrity.repair import Place
    from pipeline.integrity.verify import repair_all
    from pipeline.node import topological

    whole = replace(resources(*wanted, say), scheduler=scheduler, on_cpus=wanted[0] == "cpu")
    work = as_workers_see(work, nodes, whole)
    able = {node.path(work).name: Place(node, work, whole, wait, say) for node in topological(nodes)}
    if left := repair_all(found, able, say):
        remedy = "give the config that they were built with"
        raise StoreError(f"not of this experiment and not repaired: {', '.join(left)}", where=work, remedy=remedy)
    paths = {able[name].path for name in found.to_repair if name in able and able[name].path.exists()}
    if again := [problem for checked in check(sorted(paths), quick=False) for problem in checked.problems]:
        raise StoreError(f"still damaged after the repair: {again[0]}", remedy="check the disk")
    say(f"all repaired: {', '.join(found.to_repair)}")


def print_scores(nodes: "Sequence[Node]", work: "Location") -> None:
    """The results as a table, means over seeds, and what they say in one sentence."""
    scored = [node for node in nodes if node.kind == "evaluate"]
    if not scored:
        return
    from lima_core.stores.scores import concat_scores
    from lima_core.viz.scores import HARD_SPACE, HEADER, compare, evaluators, reading, score_rows
    from pipeline.text import table

    scores = concat_scores([node.path(work) for node in scored])
    comparisons = compare(scores)
    lines = ["", table(HEADER, score_rows(comparisons)), f"evaluators: {evaluators(scores)}"]
    if any(comparison.difference is not None for comparison in comparisons):
        lines.append(reading(comparisons))
    print("\n".join(lines).replace(HARD_SPACE, " "))


def print_report(nodes: "Sequence[Node]", work: "Location") -> None:
    """Where the page is."""
    from pipeline.places import readable

    for node in nodes:
        if node.kind == "report":
            print(f"report: {readable(node, work, say) / 'report.html'}")


@cache
def own_ranks() -> "Ranks":
    """Who this process is among those that torchrun started."""
    from pipeline.ranks import join

    return join(os.environ)


def say(line: str) -> None:
    """One line for the user."""
    print(line, flush=True)


def say_aside(line: str) -> None:
    """One line that is no result."""
    print(line, file=sys.stderr, flush=True)


def prepare_process(threads: int | None = None) -> None:
    """Threads and memory of this process, before anything heavy is imported."""
    from pipeline.process import keep_freed_memory, set_threads

    set_threads(threads)
    keep_freed_memory()
