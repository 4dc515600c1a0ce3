"""One builder per artifact on an object storage, which has no locks: a lease, a small object that its holder rewrites.

Whoever sees the same content for ``stale_s`` by its own monotonic clock takes the lease over; no other clock is looked
at, so a wrong or jumping one changes nothing. Two that take it at once both write and, after ``settle_s``, read again:
the content that is there then has won. A holder that finds another's content stops. It loses nothing: what it has
finished lies there whole, and is the same bytes whoever builds it.
"""

import json
import os
import platform
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from lima_core.errors import BusyError, UnreachableError
from lima_core.storage import Location, create, read_bytes, remove_remote, write_bytes

Say = Callable[[str], None]


@dataclass(frozen=True)
class Rhythm:
    """How often a lease is rewritten, and how long it may go without."""

    beat_s: float = 10.0
    stale_s: float = 60.0
    settle_s: float = 1.0
    """From a write to the read that decides; longer than a small write takes."""


RHYTHM = Rhythm()


@dataclass
class Lease:
    """One process's claim on an artifact."""

    place: Location
    rhythm: Rhythm
    interrupt: Callable[[], None]
    """Stops the work from the thread that finds the lease lost."""
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    beats: int = 0
    lost: str | None = None
    """Who has it now."""

    def __post_init__(self) -> None:
        self._since = datetime.now(UTC).isoformat(timespec="seconds")
        self._ended, self._guard = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def content(self) -> bytes:
        """What is written next; every beat's is another."""
        told = {"host": platform.node(), "pid": os.getpid(), "space": _pid_space(), "since": self._since}
        return json.dumps({**told, "token": self.token, "beat": f"{self.beats:012d}"}).encode()

    def is_ours(self) -> bool:
        """Whether the object on the storage is this process's; if it is gone it is written anew."""
        found = read(self.place)
        if found is None:
            return create(self.place, self.content()) or self.is_ours()
        if _told(found).get("token") == self.token:
            return True
        self.lost = describe(found)
        return False

    def check(self) -> None:
        """Raises a BusyError where another process has taken the lease over."""
        if self.lost is None and self.is_ours():
            return
        what = f"was taken over by {self.lost}, because this process did not renew its lease in time"
        raise BusyError(what, where=self.place.name, remedy="nothing is lost; run again with --wait")

    def start(self) -> None:
        """Begins to renew it."""
        self._thread.start()

    def end(self) -> None:
        """Gives it back if it is still ours."""
        with self._guard:
            self._ended.set()
        self._thread.join(timeout=self.rhythm.beat_s)
        with suppress(UnreachableError):
            if self.lost is None and _told(read(self.place)).get("token") == self.token:
                remove_remote(self.place)

    def _keep(self) -> None:
        while not self._ended.wait(self.rhythm.beat_s):
            # While the storage cannot be reached no one can publish either; what counts is who has it afterwards.
            with suppress(UnreachableError):
                if not self.is_ours():
                    break
                self.beats += 1
                write_bytes(self.place, self.content())
        with self._guard:
            if self.lost is not None and not self._ended.is_set():
                self.interrupt()


@contextmanager
def held(
    place: Location, name: str, wait: bool, say: Say, rhythm: Rhythm | None = None
) -> Iterator[Callable[[], None]]:
    """Holds the lease at ``place``; yields what raises a BusyError when it is lost. Losing it interrupts the work.

    Args:
        place: of the object.
        name: of the artifact, for messages.
        wait: wait until the holder is done; else fail as soon as it shows that it is alive.
        say: receives a line about waiting, and one about taking over.
        rhythm: None: ``RHYTHM``.

    Raises:
        BusyError: another process holds it and ``wait`` is False, or has taken it over.
    """
    lease = Lease(place, rhythm or RHYTHM, _interrupt_main)
    _acquire(lease, name, wait, say)
    lease.start()
    try:
        yield lease.check
    except KeyboardInterrupt:
        if lease.lost is not None:
            lease.check()
        raise
    finally:
        lease.end()


def read(place: Location) -> bytes | None:
    """Content of a lease; None where there is none."""
    try:
        return read_bytes(place)
    except FileNotFoundError:
        return None


def is_alive(place: Location, name: str, say: Say, rhythm: Rhythm | None = None) -> bool:
    """Whether its holder shows a sign of life; where nothing else is known of it, within ``stale_s``."""
    rhythm = rhythm or RHYTHM
    first, since = read(place), time.monotonic()
    if first is None or _is_dead(first):
        return False
    say(f"{name}: held by {describe(first)}, up to {rhythm.stale_s:.0f} s for a sign of life")
    while time.monotonic() - since < rhythm.stale_s:
        time.sleep(rhythm.beat_s / 4)
        if (found := read(place)) != first:
            return found is not None
    return False


def describe(content: bytes | None) -> str:
    """Who wrote it: ``pid 4242 on node7 since 2025-01-01T00:00:00+00:00``."""
    told = _told(content)
    if not {"pid", "host", "since"} <= told.keys():
        return "another process"
    return f"pid {told['pid']} on {told['host']} since {told['since']}"


def _acquire(lease: Lease, name: str, wait: bool, say: Say) -> None:
    """Returns when the lease is ours."""
    seen, since = None, 0.0
    while True:
        found = read(lease.place)
        if found is None:
            if create(lease.place, lease.content()) and _settled(lease):
                return
        elif _is_dead(found) or (found == seen and time.monotonic() - since > lease.rhythm.stale_s):
            if _taken(lease, found):
                say(f"{name}: taken over from {describe(found)}, which is gone")
                return
        elif found != seen:
            _tell(lease.rhythm, name, found, seen is None, wait, say)
            seen, since = found, time.monotonic()
        time.sleep(lease.rhythm.beat_s / 4)


def _tell(rhythm: Rhythm, name: str, found: bytes, is_first: bool, wait: bool, say: Say) -> None:
    """Says whom one waits for; its second sign of life decides where one would not."""
    if not is_first and not wait:
        remedy = "wait for it, or run again with --wait"
        raise BusyError(f"is being built by {describe(found)}", where=name, remedy=remedy)
    if is_first:
        until = "" if wait else f", {rhythm.stale_s:.0f} s for a sign of life"
        say(f"{name}: waiting for {describe(found)}{until}")


def _taken(lease: Lease, found: bytes) -> bool:
    if read(lease.place) != found:
        return False
    write_bytes(lease.place, lease.content())
    return _settled(lease)


def _settled(lease: Lease) -> bool:
    time.sleep(lease.rhythm.settle_s)
    return _told(read(lease.place)).get("token") == lease.token


def _is_dead(content: bytes) -> bool:
    """Whether its writer is known to be dead: it was a process of this very machine, and is none any more."""
    told = _told(content)
    return told.get("space") == _pid_space() and isinstance(told.get("pid"), int) and not psutil.pid_exists(told["pid"])


def _pid_space() -> str | None:
    """Where a process number means something: this boot of this machine, and this container of it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return uuid.uuid4().hex  # not known: no other process is in it


def _told(content: bytes | None) -> dict[str, Any]:
    try:
        told = json.loads(content or b"{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _interrupt_main() -> None:
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
