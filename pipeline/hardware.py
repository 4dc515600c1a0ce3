"""Which device and engine a run uses, resolved once, before any stage starts."""

import os
from collections.abc import Callable, Sequence

import psutil

from lima_core.errors import ConfigError, did_you_mean
from lima_core.types import Resources

MAX_DEFAULT_WORKERS = 8
"""Every process holds half a gigabyte of libraries; more than this is asked for, not assumed."""


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def default_jobs(device: str, memory_bytes: Sequence[int]) -> int:
    """Artifacts that may be built side by side: one per core, as free memory allows for the largest; on a GPU one."""
    if device != "cpu":
        return 1
    fitting = psutil.virtual_memory().available // max(memory_bytes, default=1)
    return max(1, min(num_cores(), MAX_DEFAULT_WORKERS, fitting))


def resources(device: str, engine: str, workers: int | None, say: Callable[[str], None] = lambda _: None) -> Resources:
    """Resources with device and engine resolved; ``workers`` None: one per core, at most ``MAX_DEFAULT_WORKERS``.

    Tells ``say`` which engine ``auto`` took and why.

    Raises:
        ConfigError: an unknown device or engine, or one that is not there.
    """
    from lima_core.sparse import resolve_engine

    if workers is None:
        cores = num_cores()
        workers = min(cores, MAX_DEFAULT_WORKERS) if cores > 1 else 0
    resolved = resolve_device(device)
    name, why = resolve_engine(engine, resolved)
    if engine == "auto":
        say(f"sparse engine {name} on {resolved}: {why}")
    return Resources(device=resolved, engine=name, workers=workers)


def resolve_device(name: str) -> str:
    """``auto`` -> ``cuda`` where torch can use a GPU, else ``cpu``.

    Raises:
        ConfigError: an unknown name, or a GPU that is not there.
    """
    import torch

    count = torch.cuda.device_count()
    if name == "auto":
        return "cuda" if count else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()) or name == "cpu:":
        raise ConfigError(
            f"unknown device {name!r}", where="--device", remedy=did_you_mean(name, ["auto", "cpu", "cuda"])
        )
    if kind == "cuda" and int(number or 0) >= count:
        remedy = "use --device auto, and see lima doctor"
        raise ConfigError(f"{name!r} is not there, torch sees {count} GPUs", where="--device", remedy=remedy)
    return name
