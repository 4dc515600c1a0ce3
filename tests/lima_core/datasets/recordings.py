"""Where a real recording lies."""

from pathlib import Path

import pytest


def recording(real_data: Path, name: str) -> Path:
    """Folder of one recording; skips the test with the reason where it is absent."""
    if not (real_data / name).is_dir():
        pytest.skip(f"no {name}/ in {real_data}")
    return real_data / name
