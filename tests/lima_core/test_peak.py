import mmap
import subprocess
import sys
import time

import pytest

from lima_core.peak import peak_memory, process_bytes, tree_bytes

HELD = "import sys; held = bytearray(b'x') * 60_000_000; print('held', flush=True); sys.stdin.read()"


def test_memory_that_was_given_back_within_counts() -> None:
    before = process_bytes()
    with peak_memory("cpu", process_bytes, every_s=0.001) as peak:
        held = mmap.mmap(-1, 60_000_000)  # new pages: what malloc kept of other tests is resident already
        held.write(b"x" * 60_000_000)
        time.sleep(0.1)
        held.close()
    assert 50_000_000 < peak[0] - before < 150_000_000  # the text that is written counts, too


def test_what_is_held_at_the_end_counts_however_short_it_was() -> None:
    said = iter([7])
    with peak_memory("cpu", lambda: next(said), every_s=60.0) as peak:
        pass
    assert peak == [7]


@pytest.mark.parametrize(("held", "least", "most"), [(tree_bytes, 6e7, 12e7), (process_bytes, -2e7, 2e7)])
def test_children_count_in_the_tree_only(held: object, least: float, most: float) -> None:
    before = held()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HELD], **pipes) as child:
        assert child.stdout.readline() == b"held\n"
        with peak_memory("cpu", held) as peak:
            pass
        child.stdin.close()
    assert least < peak[0] - before < most
