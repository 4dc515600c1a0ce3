"""What appears is whole; what failed leaves nothing, and what a killed process left is cleared away."""

import json
from pathlib import Path

import pytest

from lima_core.whole import appears_whole, write_json


def test_a_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "scene"
    with appears_whole(final) as partial:
        partial.mkdir()
        (partial / "a").write_text("1")
        assert not final.exists()
    assert (final / "a").read_text() == "1" and list(final.parent.iterdir()) == [final]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), appears_whole(tmp_path / "file") as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_process_are_replaced(tmp_path: Path) -> None:
    leftover = tmp_path / "scene.writing"
    leftover.mkdir()
    (leftover / "stale").write_text("old")
    with appears_whole(tmp_path / "scene") as partial:
        assert not partial.exists()
        partial.mkdir()
    assert list((tmp_path / "scene").iterdir()) == []


def test_json_is_sorted_and_refuses_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1.5], "b": 1}
    assert (tmp_path / "a.json").read_text().index('"a"') < (tmp_path / "a.json").read_text().index('"b"')
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", {"x": float("nan")})
    assert not (tmp_path / "b.json").exists()
