"""A whole measuring session in one command: GPU tests, then what ``lima bench`` measures, the most telling first.

python -m benchmarks.session [PART ...] [--device cuda] [--minutes 8] [--out FOLDER] [--label WORD] [--commit SHA]

Everything runs with the packages that are there: nothing is fetched and nothing is built. Every part is a process of
its own, so a peer that takes its process down takes no other part with it, and what was measured by then is on disk:
records are written after every case. On a GPU: tests marked ``gpu``, engines, roofline of layers, memory of a step. On
a CPU: all subjects, without the tests. Afterwards ``python -m benchmarks.page`` brings docs/benchmarks.md up to date.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pipeline.bench.record import checked
from pipeline.bench.text import as_text
from pipeline.hardware import num_cores, resolve_device
from pipeline.manifest import cpu_name, gpu_name

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PARTS = {
    "cuda": (("tests", 0.25), ("engines", 0.6), ("layers", 0.5), ("step", 0.9)),
    "cpu": (("engines", 0.5), ("layers", 0.4), ("step", 0.5), ("loader", 0.6), ("projection", 0.8), ("bank", 0.9)),
}
"""What runs on which kind of device, in this order, and the share of the time still left that it may take."""
LAST = 0.9
"""The share of whatever is asked for last: the rest is for the round that runs when time is up."""


@dataclass(frozen=True)
class Session:
    """What was asked for."""

    device: str
    minutes: float
    out: Path
    commit: str
    size: str
    label: str = ""
    only: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[tuple[str, float], ...]:
        """Parts and their shares."""
        known = PARTS[self.device.partition(":")[0]]
        asked = [(part, share) for part, share in known if not self.only or part in self.only]
        return tuple((part, LAST if part == asked[-1][0] else share) for part, share in asked)

    def file(self, subject: str) -> Path:
        """Where the record of a subject goes."""
        where = "-".join(filter(None, [hardware_slug(self.device), self.label]))
        return self.out / f"{where}_{datetime.now(UTC):%Y-%m-%d}_{subject}.json"


def hardware_slug(device: str) -> str:
    """``nvidia-h200``, ``xeon-2-cores``, ``xeon-2-cores-1-thread``: for a file's name; the record has it in full."""
    threads = int(os.environ.get("OMP_NUM_THREADS", num_cores()))
    few = "" if threads == num_cores() else f" {threads} thread{'s' * (threads != 1)}"
    words = gpu_name(device) or f"{cpu_name()} {num_cores()} cores{few}"
    words = re.sub(r"\((R|TM|tm|r)\)|@.*?GHz|\b(Intel|AMD|Processor|CPU|\d+-Core)\b", " ", words)
    return "-".join(re.findall(r"[a-z0-9.]+", words.lower()))


def commands(session: Session, part: str, seconds: float) -> list[list[str]]:
    """What to start for a part: the second, with a record of its own, only if the first dies."""
    if part == "tests":
        return [test_command()]
    if part != "engines":
        return [bench_command(session, part, seconds)]
    peers = [word for peer in peer_modules() for word in ("--peer", peer)]
    native = replace(session, label="-".join(filter(None, [session.label, "native"])))
    return [
        [*bench_command(session, part, seconds), *peers],
        [*bench_command(native, part, seconds), "--only", "native"],
    ]


def bench_command(session: Session, part: str, seconds: float) -> list[str]:
    """``lima bench`` of one subject."""
    words = [sys.executable, "-m", "pipeline.cli", "bench", part, "--device", session.device]
    file = Path(os.path.relpath(session.file(part).resolve(), ROOT))  # the record keeps the command: no paths of mine
    words += ["--out", str(file), "--minutes", f"{seconds / 60:.3f}"]
    words += ["--commit", session.commit] if session.commit else []
    return words + ([f"--{session.size}"] if session.size != "full" else [])


def test_command() -> list[str]:
    """The tests for a GPU, from the files that have any; other files may need packages that are not here.

    Warnings of versions that nobody has tested are shown and are no failures.
    """
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text()]
    options = (
        "-o addopts= --import-mode=importlib -p no:cacheprovider -W default -rA -q --continue-on-collection-errors"
    )
    return [
        sys.executable,
        "-m",
        "pytest",
        *options.split(),
        "-m",
        "gpu",
        *(str(path.relative_to(ROOT)) for path in files),
    ]


def peer_modules() -> list[str]:
    """Names of the modules in benchmarks/peers."""
    files = sorted((ROOT / "benchmarks" / "peers").glob("[a-z]*.py"))
    return [f"benchmarks.peers.{path.stem}" for path in files if "\nNAME = " in path.read_text()]


def run(session: Session) -> list[str]:
    """Runs the parts; returns a line for every one that did not end well."""
    ends, troubles = time.monotonic() + 60 * session.minutes, []
    session.out.mkdir(parents=True, exist_ok=True)
    for part, share in session.parts:
        left = ends - time.monotonic()
        if left <= 0:
            troubles.append(f"{part}: no time left")
            continue
        for command in commands(session, part, share * left):
            print(f"--- {part}, {share * left:.0f} of {left:.0f} s left: {' '.join(command)}", flush=True)
            trouble, timed_out = _run_part(command, share * left if part == "tests" else ends - time.monotonic())
            if trouble:
                troubles.append(f"{part}: {trouble}")
            if not trouble or timed_out:
                break
    return troubles


def _run_part(command: Sequence[str], seconds: float) -> tuple[str, bool]:
    """What went wrong, empty for nothing, and whether it was time that ran out."""
    try:
        done = subprocess.run(command, cwd=ROOT, timeout=max(seconds, 1.0))
    except subprocess.TimeoutExpired:
        return f"stopped after {seconds:.0f} s", True
    return f"exit status {done.returncode}" if done.returncode else "", False


def written(folder: Path, subject: str, since: float) -> list[Path]:
    """Records of a subject that were written after ``since``, seconds of the epoch."""
    return [path for path in sorted(folder.glob(f"*_{subject}.json")) if path.stat().st_mtime >= since]


def main(words: Sequence[str] | None = None) -> int:
    """Runs a session, prints its tables; 1 where a part did not end well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="only these")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--label", default="", help="sets records apart: other peers installed, other settings")
    parser.add_argument("--commit", default="", help="of the code, where it is no git checkout")
    parser.add_argument("--size", choices=("full", "quick", "tiny"), default="full", help="tiny: only that it runs")
    arguments = parser.parse_args(words)
    asked = vars(arguments) | {"device": resolve_device(arguments.device), "only": tuple(arguments.parts)}
    session = Session(**{name: value for name, value in asked.items() if name != "parts"})
    if unknown := set(session.only) - {part for part, _ in session.parts}:
        parser.error(f"no such part on {session.device}: {', '.join(sorted(unknown))}")
    started = time.time()
    troubles = run(session)
    for part, _ in session.parts:
        for path in written(session.out, part, started):
            print(f"\n=== {part}: {path}\n")
            print(as_text(checked(json.loads(path.read_text()), path)))
    print("\n".join(["", *(f"TROUBLE {trouble}" for trouble in troubles)]))
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main())
