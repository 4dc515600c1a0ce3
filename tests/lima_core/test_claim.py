"""Two live writers of the same folder never meet; what the dead left is reused; the first that is whole stays."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from lima_core.checksums import is_sealed, seal
from lima_core.claim import claimed
from lima_core.errors import BusyError
from lima_core.whole import appears_whole, sweep

HOLDER = """
import sys, time
from pathlib import Path
from lima_core.claim import claimed
with claimed(Path(sys.argv[1])) as (place, _):
    place.mkdir()
    (place / "half").write_text("old")
    print(place.name, flush=True)
    time.sleep(60)
"""


def holder(final: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(final)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline().strip() == "scene.writing"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_live_writer_elsewhere_is_left_alone_and_a_dead_one_is_cleared_away(tmp_path: Path) -> None:
    final = tmp_path / "scene"
    other = holder(final)
    with appears_whole(final) as partial:
        assert partial.name == "scene.2.writing"
        partial.mkdir()
        (partial / "zarr.json").write_text("new")
    assert (tmp_path / "scene.writing" / "half").read_text() == "old"
    kill(other)
    with appears_whole(final) as partial:
        assert partial.name == "scene.writing" and not partial.exists()
        partial.mkdir()
        (partial / "zarr.json").write_text("newer")
    assert list(tmp_path.iterdir()) == [final]


def test_two_writers_in_one_process_have_two_names(tmp_path: Path) -> None:
    with claimed(tmp_path / "a") as first, claimed(tmp_path / "a") as second, claimed(tmp_path / "b") as third:
        assert [place.name for place, _ in (first, second, third)] == ["a.writing", "a.2.writing", "b.writing"]
    with claimed(tmp_path / "a") as again:
        assert again[0] == first[0]
    assert list(tmp_path.iterdir()) == []


def scene(folder: Path, text: str, marker: str = "zarr.json") -> None:
    folder.mkdir()
    (folder / marker).write_text(text)


def test_the_first_of_two_that_is_whole_stays(tmp_path: Path) -> None:
    final = tmp_path / "scene"
    with appears_whole(final) as slow:
        scene(slow, "slow")
        with appears_whole(final) as quick:
            scene(quick, "quick")
    assert (final / "zarr.json").read_text() == "quick" and list(tmp_path.iterdir()) == [final]


def test_a_folder_that_is_not_whole_is_replaced(tmp_path: Path) -> None:
    final = tmp_path / "scene"
    scene(final, "damaged", marker="codes")
    with appears_whole(final) as partial:
        scene(partial, "whole")
    assert [path.name for path in final.iterdir()] == ["zarr.json"]


def test_a_folder_that_never_says_whether_it_is_whole_is_not_replaced(tmp_path: Path) -> None:
    final = tmp_path / "export"
    scene(final, "somebody's", marker="notes")
    with pytest.raises(OSError, match="not empty"), appears_whole(final) as partial:
        scene(partial, "new", marker="model")
    assert [path.name for path in tmp_path.iterdir()] == ["export"] and (final / "notes").exists()


def write_scene(final: Path, meanwhile: Callable[[], object] = lambda: None) -> None:
    with appears_whole(final) as folder:
        for name in ("codes", "has_image"):
            (folder / name).mkdir(parents=True)
            (folder / name / "0").write_text(name)
            meanwhile()
        seal(folder, {})


def test_a_slow_writer_publishes_nothing_where_its_folder_was_finished_meanwhile(tmp_path: Path) -> None:
    half, whole = tmp_path / "store.partial", tmp_path / "store"

    def others_finish() -> None:
        if not whole.exists():
            write_scene(half / "scene")
            sweep(half)
            half.rename(whole)

    with pytest.raises(BusyError, match=r"scene: its folder was finished or removed by another process meanwhile"):
        write_scene(half / "scene", others_finish)
    assert is_sealed(whole / "scene") and not (half / "scene").exists()
    write_scene(half / "scene")  # what the slow one left is in nobody's way
    assert [path.name for path in half.iterdir()] == ["scene"]


def test_a_writer_whose_claim_was_swept_leaves_the_next_one_alone(tmp_path: Path) -> None:
    with ExitStack() as next_one:
        with pytest.raises(BusyError), appears_whole(tmp_path / "scene") as slow:
            slow.mkdir()
            sweep(tmp_path)
            place, is_kept = next_one.enter_context(claimed(tmp_path / "scene"))
            assert place == slow
            place.mkdir()
        assert is_kept() and place.is_dir()
