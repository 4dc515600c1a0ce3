"""Fixtures shared by all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


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
