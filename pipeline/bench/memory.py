"""Peak memory of one contestant on the CPU, in a process of its own, where no other has left freed pages behind.

python -m pipeline.bench.memory MODULE CASE CONTESTANT OPTIONS

The number is how far one first run raised the resident set above where it stood when all was prepared (VmHWM of Linux,
reset there). On CUDA the harness reads torch's own count instead.
"""

import ctypes
import json
import math
import subprocess
import sys
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import torch

from pipeline.bench.harness import Case, Contestant, Options
from pipeline.process import keep_freed_memory

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peaks(
    module: str, case: Case, options: Options, deadline: float = math.inf
) -> tuple[dict[str, int], dict[str, str]]:
    """Bytes by contestant, for those whose memory is wanted, and why it could not be had for others."""
    found, failed = {}, {}
    wanted = [contestant for contestant in case.contestants if contestant.memory and options.device == "cpu"]
    for contestant in wanted[:1] if options.size == "tiny" else wanted:
        if not RESET.exists():
            failed[contestant.name] = f"peak memory is read from {RESET}, which only Linux has"
            continue
        if time.monotonic() > deadline:
            failed[contestant.name] = "peak memory: not measured, time was up"
            continue
        command = [sys.executable, "-m", "pipeline.bench.memory", module, case.title, contestant.name]
        done = subprocess.run([*command, json.dumps(asdict(options))], capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
            failed[contestant.name] = f"peak memory: {reason}"
        else:
            found[contestant.name] = int(done.stdout.splitlines()[-1])
    return found, failed


def peak_rise(contestant: Contestant) -> int:
    """Bytes by which one run of the contestant's work raises the resident set at most."""
    work = contestant.prepare()
    _start_libraries()
    _hand_back_freed_memory()
    RESET.write_text("5")
    before = _status_bytes("VmRSS")
    work()
    return _status_bytes("VmHWM") - before


def _start_libraries() -> None:
    """A first product at each precision costs up to 0.3 GB of code and tables, whoever asks for it."""
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.ones(64, 64, dtype=dtype, requires_grad=True)
        (matrix @ matrix).sum().backward()


def _hand_back_freed_memory() -> None:
    """What the preparation has freed and the process has kept would hide what the run needs."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # only in glibc, where memory is kept
        libc.malloc_trim(0)


def _status_bytes(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


def main() -> None:
    """Prints a number of bytes; memory is kept as in every command of ``lima``."""
    keep_freed_memory()
    module, title, name, words = sys.argv[1:]
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(words).items()}
    options = Options(**fields)
    case = next(case for case in import_module(module).cases(options) if case.title == title)
    print(peak_rise(next(contestant for contestant in case.contestants if contestant.name == name)))


if __name__ == "__main__":
    main()
