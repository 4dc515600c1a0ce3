"""Real processes that talk through gloo: ``together(job, size)`` runs ``job(rank, size, ...)`` in each."""

import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from lima_core.training import distributed


def together(job: Callable[..., Any], size: int, meet: Path, *args: Any) -> list[Any]:
    """What ``job(rank, size, *args)`` returns in every process; an error comes back as its text.

    Args:
        job: a function of a module, so that a fresh process finds it.
        size: number of processes.
        meet: a file that is not there yet, by which they find each other.
        args: further arguments.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    pipes = [context.Pipe(duplex=False) for _ in range(size)]
    processes = [
        context.Process(target=_work, args=(job, rank, size, meet, writer, args))
        for rank, (_, writer) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    answers = [reader.recv() if reader.poll(120) else "no answer" for reader, _ in pipes]
    for process in processes:
        process.join(10)
        process.kill()
    return answers


def _work(job: Callable[..., Any], rank: int, size: int, meet: Path, answer: Connection, args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    distributed.start(rank, size, "cpu", dist.FileStore(str(meet), size))
    try:
        answer.send(job(rank, size, *args))
    except ValueError as error:
        answer.send(str(error))
    except Exception:
        answer.send(traceback.format_exc())
    distributed.stop()
