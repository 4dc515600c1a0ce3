"""Fixtures shared by all tests."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lima_core.storage import Location


@pytest.fixture
def real_data() -> Path:
    """Folder of real recordings, named by LIMA_TEST_DATA; the test is skipped with the reason where there is none."""
    name = os.environ.get("LIMA_TEST_DATA")
    if not name:
        pytest.skip("LIMA_TEST_DATA is not set: no folder of real recordings")
    if not Path(name).is_dir():
        pytest.skip(f"LIMA_TEST_DATA={name} is not a folder")
    return Path(name)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread for torch: networks in tests are so small that a second one costs more than it brings."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A server in this process that speaks S3."""
    from tests.object_storage import s3_server

    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def s3_work(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator["Location"]:
    """A work folder in a new bucket of it; commands that are started inherit how to get there."""
    import s3fs

    from lima_core.storage import file_system, location

    given = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    given |= {"AWS_ENDPOINT_URL": s3_endpoint, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    work = location(f"s3://{uuid.uuid4().hex}/some/work")
    file_system(work).mkdir(work.parts[0].rstrip("/"))
    yield work
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def memory_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> "Location":
    """A work folder on an object storage that is in this process's memory."""
    from lima_core.storage import location

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return location(f"memory://{uuid.uuid4().hex}/work")
