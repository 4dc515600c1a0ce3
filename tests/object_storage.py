"""Object storages for tests: a real S3 server in this process, and one that fails, cuts and waits as it is told."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem
from upath.implementations.memory import MemoryPath
from upath.registry import register_implementation


@contextmanager
def s3_server() -> Iterator[str]:
    """Endpoint of a server that speaks S3."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


class UnsteadyFileSystem(MemoryFileSystem):
    """In memory; ``calls`` counts what was asked, ``trouble`` says what goes wrong with the n-th call of a name."""

    protocol = "unsteady"
    store: dict[str, Any] = {}  # noqa: RUF012 - as the class above has it
    pseudo_dirs: list[str] = [""]  # noqa: RUF012
    calls: dict[str, int] = {}  # noqa: RUF012
    trouble: Callable[[str, int], Exception | None] = staticmethod(lambda name, number: None)
    cut_bytes = 0
    cut_times = 0
    cut_every = 0
    delay_s = 0.0

    def _asked(self, name: str) -> None:
        number = self.calls[name] = self.calls.get(name, 0) + 1
        time.sleep(self.delay_s)
        if error := self.trouble(name, number):
            raise error

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """Fewer bytes than asked for the first ``cut_times`` times, and every ``cut_every``-th time."""
        self._asked("read")
        data, number = super().cat_file(path, start, end, **kwargs), self.calls["read"]
        is_cut = number <= self.cut_times or (self.cut_every and number % self.cut_every == 0)
        return data[: -self.cut_bytes] if is_cut else data

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        """May fail."""
        self._asked("write")
        super().pipe_file(path, value, mode, **kwargs)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list:
        """May fail."""
        self._asked("list")
        return super().ls(path, detail, **kwargs)


fsspec.register_implementation("unsteady", UnsteadyFileSystem, clobber=True)
register_implementation("unsteady", MemoryPath, clobber=True)
