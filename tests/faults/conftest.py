"""One undisturbed run; every test works on copies of it."""

import shutil
from pathlib import Path

import pytest

from tests.faults.flow import Flow, build_reference
from tests.small_experiment import data_of


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, bytes]]:
    """Data set, work folder and its data. Do not write to them."""
    raw, work = build_reference(tmp_path_factory.mktemp("undisturbed"))
    return raw, work, data_of(work)


@pytest.fixture
def finished(undisturbed: tuple[Path, Path, dict[str, bytes]], tmp_path: Path) -> Flow:
    """Copies of data set and work folder, everything built but the report."""
    raw, work, data = undisturbed
    shutil.copytree(raw, tmp_path / "raw")
    shutil.copytree(work, tmp_path / "work")
    return Flow(tmp_path / "raw", tmp_path / "work", data)


@pytest.fixture
def fresh(undisturbed: tuple[Path, Path, dict[str, bytes]], tmp_path: Path) -> Flow:
    """A copy of the data set, nothing built."""
    raw, _, data = undisturbed
    shutil.copytree(raw, tmp_path / "raw")
    return Flow(tmp_path / "raw", tmp_path / "work", data)
