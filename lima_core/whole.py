"""Nothing half-written: a file or folder is built under another name and renamed when it is complete.

Presence therefore means completeness, for an artifact, for a scene inside it and for a JSON file alike.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def fsync_path(path: Path) -> None:
    """Flushes one file or folder entry to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(path: Path) -> None:
    """Flushes a file, or a folder with everything below it."""
    if path.is_dir():
        for folder, _, names in os.walk(path):
            for name in names:
                fsync_path(Path(folder, name))
            fsync_path(Path(folder))
    else:
        fsync_path(path)


def publish(partial: Path, final: Path) -> None:
    """Makes ``partial`` appear as ``final`` in one step, on disk before it is seen."""
    fsync_tree(partial)
    os.replace(partial, final)
    fsync_path(final.parent)


@contextmanager
def appears_whole(final: Path) -> Iterator[Path]:
    """Yields a path beside ``final`` to write to; renames it on success, removes it on failure.

    What an earlier, killed process left under that name is removed first.
    """
    partial = final.with_name(final.name + ".writing")
    remove(partial)
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
    except BaseException:
        remove(partial)
        raise
    publish(partial, final)


def remove(path: Path) -> None:
    """Removes a file or folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON (sorted keys, no NaN) so that it appears whole."""
    with appears_whole(path) as partial:
        partial.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")
