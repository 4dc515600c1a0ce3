"""Folders as values, to compare an interrupted artifact with an undisturbed one."""

from pathlib import Path


def tree(folder: Path) -> dict[str, bytes]:
    """Every file's bytes by its path; logs, which hold times, are no data."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    named = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: path.read_bytes() for name, path in named.items() if not name.startswith("logs/")}
