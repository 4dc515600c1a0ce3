"""What a training says while it runs: one greppable line a step, a live bar on a terminal, TensorBoard files beside."""

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def duration(seconds: float) -> str:
    """``75`` -> ``1m15s``; whole seconds, two units at most."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


class StepLog:
    """Writes ``<out>/logs/train.log`` and ``<out>/logs/tensorboard`` and shows progress on stderr.

    Everything here may hold times; nothing here is part of an artifact's data.
    """

    def __init__(self, out: Path, title: str, total: int, done: int) -> None:
        self.title, self.total, self.first = title, total, done
        self.folder = out / "logs"
        self.started = time.monotonic()

    def __enter__(self) -> "StepLog":
        from torch.utils.tensorboard import SummaryWriter  # half a second that plans and workers need not pay

        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as opened:
            self.file: TextIO = opened.enter_context(open(self.folder / "train.log", "a", buffering=1))
            self.board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.first or None)
            self.opened = opened.pop_all()
        self.bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[now]}"),
            )
            times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
            self.bar = Progress(*columns, *times, console=Console(stderr=True))
            self.bar.start()
            self.task = self.bar.add_task(self.title, total=self.total, completed=self.first, now="")
        if self.first:
            self.say(f"{self.title} resumed after step {self.first}/{self.total}")
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()
        with self.opened:  # The board's last flush may find the disk full.
            self.board.close()

    def say(self, line: str) -> None:
        """Writes one line to the log, and to stderr where no bar is shown."""
        self.file.write(line + "\n")
        if not self.bar:
            print(line, file=sys.stderr, flush=True)

    def step(self, done: int, row: dict[str, float], step_s: float, data_s: float) -> None:
        """Reports a finished step.

        Args:
            done: steps finished so far.
            row: the step's line of the curve.
            step_s: seconds of the whole step, waiting for data included.
            data_s: seconds of it spent waiting for data.
        """
        eta = (time.monotonic() - self.started) / (done - self.first) * (self.total - done)
        data_share = data_s / max(step_s, 1e-9)
        numbers = " ".join(f"{k}={v:.4g}" for k, v in row.items() if k not in ("step", "epoch", "loss", "lr"))
        head = (
            f"{self.title} step={done}/{self.total} epoch={row['epoch']:.0f} loss={row['loss']:.5f} lr={row['lr']:.3e}"
        )
        self.say(f"{head} {numbers} ms={step_s * 1e3:.0f} data={data_share:.0%} eta={duration(eta)}")
        for name, value in (row | {"ms": step_s * 1e3, "data_share": data_share}).items():
            if name != "step":
                self.board.add_scalar(name, value, done)
        if self.bar:
            self.bar.update(self.task, completed=done, now=f"loss={row['loss']:.4f} data={data_share:.0%}")
