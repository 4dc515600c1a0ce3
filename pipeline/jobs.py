"""Steps of a plan in several processes: small networks do not fill two cores, two trainings side by side do.

A process per artifact, started when all that it reads is there, under the usual lock; it hands its lines and its error
to this process, which alone prints. What the stages themselves show (bars, a line a step) goes to ``work/.logs``.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import cloudpickle

from lima_core.errors import UserError
from lima_core.parallel import die_with_parent
from lima_core.storage import Location
from lima_core.types import Resources
from lima_core.whole import make_folder
from pipeline import disk, places
from pipeline.node import Node
from pipeline.planning import Step
from pipeline.runner import Say, do, numbered

LOGS = ".logs"
SLOW_IMPORTS = {
    "distill": ["torch._dynamo"],
    "finetune": ["torch._dynamo"],
    "evaluate": ["nuscenes.eval.lidarseg.evaluate"],
}
"""By stage, what torch's optimisers and the official evaluator import when first used: seconds of every process."""
PATIENCE_S = 30.0
"""How long a process that was asked to stop may take to keep what it has."""

After = Callable[[Node], None]


@dataclass(frozen=True)
class _Job:
    """A step that is being built in a process of its own."""

    step: Step
    process: BaseProcess
    reader: Connection


def run(
    steps: Sequence[Step],
    work: Location,
    resources: Resources,
    jobs: int,
    *,
    wait: bool = False,
    say: Say = print,
    after: After = lambda node: None,
    marks: Mapping[str, str] | None = None,
) -> None:
    """Builds what is missing, at most ``jobs`` artifacts at a time, in the order of ``steps`` as far as possible.

    Args:
        steps: a plan: everything that a step reads comes before it.
        work: folder of all artifacts.
        resources: of a single job; device, engine and workers enter no recipe.
        jobs: 1 works in this process.
        wait: wait for another run that builds the same artifact instead of failing.
        say: receives one line per artifact and state.
        after: called with every node whose artifact is there.
        marks: by fingerprint, what its lines end with.

    Raises:
        UserError: of the first job that fails; the others are stopped, what they have finished is kept.
        KeyboardInterrupt: after all jobs have stopped.
    """
    with disk.told_in_one_line(work):
        make_folder(places.here(work))
        if told := places.explain(work):
            say(told)
        prints = [step.node.fingerprint for step in steps]
        lines = {
            key: numbered(_marked(say, (marks or {}).get(key)), number, len(steps))
            for number, key in enumerate(prints, start=1)
        }
        here = steps if jobs == 1 else [step for step in steps if step.state == "cached"]
        for step in here:
            do(step, work, resources, wait, lines[step.node.fingerprint])
            after(step.node)
        if jobs > 1:
            _run_beside(steps, work, (work, resources, wait), jobs, lines, after)


def _marked(say: Say, mark: str | None) -> Say:
    return (lambda line: say(f"{line}  | {mark}")) if mark else say


def _run_beside(
    steps: Sequence[Step], work: Location, told: tuple[Any, ...], jobs: int, lines: dict[str, Say], after: After
) -> None:
    """The scheduler: starts whatever is ready while there is room, then waits for a line or an end."""
    context = get_context("forkserver")
    # Imported once in the server, which never computes, so its forks are safe; a module that is not found is left out.
    modules = [__name__, *sorted({step.node.stage.__name__ for step in steps})]
    slow = [module for kind in sorted({step.node.kind for step in steps}) for module in SLOW_IMPORTS.get(kind, [])]
    context.set_forkserver_preload([*modules, *slow])
    finished = {step.node.fingerprint for step in steps if step.state == "cached"}
    waiting = [step for step in steps if step.node.fingerprint not in finished]
    running: list[_Job] = []
    try:
        while waiting or running:
            for step in [step for step in waiting if _is_ready(step, finished)][: jobs - len(running)]:
                waiting.remove(step)
                running.append(_start(context, step, work, told))
            for job in _heard(running):
                if _listen(job, lines[job.step.node.fingerprint]):
                    continue
                running.remove(job)
                _check_end(job)
                finished.add(job.step.node.fingerprint)
                after(job.step.node)
    except BaseException:
        _stop(running, lines)
        raise


def _is_ready(step: Step, finished: set[str]) -> bool:
    return all(node.fingerprint in finished for node in step.node.upstream)


def _start(context: Any, step: Step, work: Location, told: tuple[Any, ...]) -> _Job:
    reader, writer = context.Pipe(duplex=False)
    log = places.here(work) / LOGS / f"{step.node.path(work).name}.log"
    log.parent.mkdir(exist_ok=True)
    # cloudpickle, because a node holds its stage, which is a module.
    process = context.Process(target=_work, args=(cloudpickle.dumps((step, *told)), log, writer), name=step.node.name)
    process.start()
    writer.close()
    return _Job(step, process, reader)


def _work(pickled: bytes, log: Path, writer: Connection) -> None:
    """The process: builds the artifact of one step."""
    die_with_parent()
    signal.signal(signal.SIGINT, _interrupt_once)
    _show_in(log)
    try:
        step, work, resources, wait = cloudpickle.loads(pickled)
        with disk.told_in_one_line(work):
            do(step, work, resources, wait, writer.send)
    except UserError as error:
        writer.send(error)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Exception:
        writer.send(RuntimeError(f"in a job:\n{traceback.format_exc()}"))


def _interrupt_once(*_: object) -> None:
    """Ctrl-C reaches every process of a terminal, and the parent asks as well: the second must not disturb the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _show_in(log: Path) -> None:
    """Standard output and error of this process go to a file."""
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _heard(running: Sequence[_Job], timeout_s: float | None = None) -> list[_Job]:
    """Jobs that have said something or ended."""
    heard = connection.wait([job.reader for job in running], timeout_s)
    return [job for job in running if job.reader in heard]


def _listen(job: _Job, say: Say) -> bool:
    """Passes one line on; whether the job goes on.

    Raises:
        UserError: what the job failed with.
        RuntimeError: a bug, with the job's traceback.
    """
    try:
        heard = job.reader.recv()
    except EOFError:
        return False
    if isinstance(heard, Exception):
        raise heard
    say(heard)
    return True


def _check_end(job: _Job) -> None:
    job.process.join()
    job.reader.close()
    if job.process.exitcode == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if job.process.exitcode:
        remedy = "what is finished is kept; if memory ran out, give fewer --jobs"
        raise UserError(f"ended with code {job.process.exitcode}", where=job.step.node.name, remedy=remedy)


def _stop(running: Sequence[_Job], lines: dict[str, Say]) -> None:
    """Asks all jobs to stop, passes their last lines on, and ends those that do not."""
    left = list(running)
    for job in left:
        if job.process.is_alive():
            with suppress(ProcessLookupError):  # It may end just now.
                os.kill(job.process.pid, signal.SIGINT)
    while left and (heard := _heard(left, PATIENCE_S)):
        for job in heard:
            try:
                goes_on = _listen(job, lines[job.step.node.fingerprint])
            except Exception:  # A second failure while stopping: the first one is told.
                goes_on = True
            if not goes_on:
                left.remove(job)
    for job in left:
        job.process.kill()
    for job in running:
        job.process.join()


def share(resources: Resources, jobs: int) -> Resources:
    """What one of ``jobs`` gets: its part of the workers, at least one where there are any."""
    return replace(resources, workers=max(min(resources.workers, 1), resources.workers // jobs))
