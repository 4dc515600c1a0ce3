"""One small read tells of all arrays of a part, to us and to zarr-python; what it cannot know is told by the reads."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from lima_core import storage
from lima_core.checksums import seal
from lima_core.errors import StoreError
from lima_core.storage import Location
from lima_core.stores.part import Part
from lima_core.stores.row_array import write_array
from lima_core.whole import copy_to

SMALL, LARGE = np.arange(4, dtype=np.int64), np.arange(24, dtype=np.float32).reshape(8, 3)


def written(folder: Path) -> Path:
    write_array(folder / "small", SMALL)
    write_array(folder / "large", LARGE)
    seal(folder, {"num_frames": 8})
    return folder


@pytest.fixture
def far(memory_work: Location, tmp_path: Path) -> Location:
    """The part on an object storage."""
    copy_to(written(tmp_path / "part"), memory_work / "part")
    return memory_work / "part"


def test_elsewhere_opening_asks_for_its_own_metadata_and_for_small_arrays_only(
    far: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = {name: getattr(storage, name) for name in ("_remote_bytes", "_remote_range", "file_bytes")}
    for name, ask in real.items():
        monkeypatch.setattr(storage, name, lambda place, *a, ask=ask: (asked.append(place.path), ask(place, *a))[1])
    part = Part(far)
    assert part.values("small", (4,), "int64").tolist() == [0, 1, 2, 3]
    large = part.rows("large")
    assert [path.partition("/part/")[2] for path in asked] == ["zarr.json", "small/c/0"]
    assert large.read(2, 4).tolist() == LARGE[2:4].tolist()


def test_elsewhere_a_missing_or_shortened_file_is_named_when_it_is_read(far: Location) -> None:
    shard = far / "large/c/0/0"
    shard.write_bytes(shard.read_bytes()[:50])
    large = Part(far).rows("large")
    with pytest.raises(StoreError, match=r"large/c/0/0: ends before row 8 of 8; run lima verify --repair"):
        large.read(4, 8)
    shard.unlink()
    with pytest.raises(StoreError, match=r"large/c/0/0: is missing; run lima verify --repair"):
        large.read(0, 2)


def test_here_a_shortened_file_is_named_when_it_is_opened(tmp_path: Path) -> None:
    shard = written(tmp_path / "part") / "large/c/0/0"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"large/c/0/0: truncated array"):
        Part(tmp_path / "part").rows("large")


def test_an_array_that_is_not_told_of_is_looked_for(tmp_path: Path) -> None:
    written(tmp_path / "part")
    write_array(tmp_path / "part" / "late", SMALL)
    assert Part(tmp_path / "part").values("late", (4,), "int64").tolist() == SMALL.tolist()
    with pytest.raises(StoreError, match="other: is missing"):
        Part(tmp_path / "part").rows("other")


@pytest.mark.parametrize("told", [[], {"metadata": []}, {"metadata": {"small": 3}}, {"metadata": {"small": {}}}])
def test_metadata_that_are_none_are_refused(tmp_path: Path, told: object) -> None:
    group = written(tmp_path / "part") / "zarr.json"
    group.write_text(json.dumps(json.loads(group.read_text()) | {"consolidated_metadata": told}))
    with pytest.raises(StoreError, match=r"zarr.json: unreadable metadata( \(.*\))?; run lima verify --repair"):
        Part(tmp_path / "part").rows("small")


def test_zarr_python_takes_it_as_its_own_consolidated_metadata(tmp_path: Path) -> None:
    group = zarr.open_consolidated(written(tmp_path / "part"), mode="r", zarr_format=3)
    assert sorted(group.metadata.consolidated_metadata.metadata) == ["large", "small"]
    np.testing.assert_array_equal(group["large"][:], LARGE)
