import ctypes
import resource
import subprocess
import sys

import pytest

FAULTS = """
import os, resource, sys
import numpy as np
from pipeline.process import keep_freed_memory
print(keep_freed_memory() if sys.argv[1] == "keep" else None)
for _ in range(2):
    np.ones(16_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(16_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(how: str, **environ: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, env={**environ, "PATH": ""}, check=True
    )
    return done.stdout.split()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults of glibc")
def test_kept_memory_is_used_again_without_page_faults() -> None:
    kept, plain = run("keep"), run("plain")
    if not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        pytest.skip("no glibc")
    assert kept[0] == "True"
    pages = 16_000_000 * 8 // resource.getpagesize()
    assert int(kept[1]) < pages / 100 < int(plain[1])


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_what_the_user_has_set_stays(name: str) -> None:
    assert run("keep", **{name: "1000000"})[0] == "False"
