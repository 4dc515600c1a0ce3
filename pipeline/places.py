"""Where an artifact is built and where it is read, in a work folder of this machine or on an object storage.

There is one rule. What a stage with ``REMOTE = True`` makes is written and read where it lies, be that a URL. Any
other artifact is built in a folder of this machine, the scratch, and copied to the storage when it is finished; what
reads it reads a whole copy in the scratch. On a storage, where nothing can be renamed, an artifact is finished when its
manifest is there, and what lies there without one is half-built.
"""

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lima_core.checksums import FileSum, file_sum
from lima_core.errors import StoreError
from lima_core.storage import (
    Location,
    children,
    download,
    files_below,
    is_file,
    is_remote,
    read_bytes,
    together,
)
from lima_core.whole import appears_whole, copy_to, discard, make_folder, publish, remove, sweep
from pipeline import lock, manifest
from pipeline.integrity import contents
from pipeline.node import Node, located

Say = Callable[[str], None]


def scratch_of(work: Location, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Folder of this machine that goes with a work folder on an object storage; None for one that is here.

    ``$XDG_CACHE_HOME/lima/<bucket>-<prefix>-<8 digits of the URL's sha256>``, by default below ``~/.cache``.
    """
    if not is_remote(work):
        return None
    url = str(work).rstrip("/")
    short = re.sub(r"[^\w.]+", "-", url.partition("://")[2])[-40:].strip("-")
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "lima" / f"{short}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def here(work: Location) -> Path:
    """The part of a work folder that is on this machine: all of it, or its scratch."""
    return scratch_of(work) or work


def explain(work: Location) -> str | None:
    """One line about the scratch, where there is one."""
    scratch = scratch_of(work)
    return scratch and f"{work} holds the artifacts; what cannot be built or read there is in {scratch}"


def build_path(node: Node, work: Location) -> Location:
    """The folder in which a stage works."""
    if not is_remote(work):
        return node.partial_path(work)
    return node.path(work) if _is_read_there(node) else node.partial_path(scratch_of(work))


def is_there(node: Node, work: Location) -> bool:
    """Whether something lies under the artifact's name: on a disk a folder, on a storage a manifest."""
    path = node.path(work)
    return is_file(path / manifest.FILE) if is_remote(path) else path.exists()


def is_begun(node: Node, work: Location) -> bool:
    """Whether an earlier run left part of the artifact."""
    place = build_path(node, work)
    return bool(children(place)) if is_remote(place) else place.exists() or is_only_unpublished(node, work)


def is_only_unpublished(node: Node, work: Location) -> bool:
    """Whether a run was killed between the manifest, which is written last, and the artifact's final place."""
    place = build_path(node, work)
    return not is_remote(place) and _has_recipe(place, node)


def finish(node: Node, work: Location) -> None:
    """Makes what was built, manifest and all, appear under its final name; on a storage the manifest comes last.

    What was built here keeps the name of something half-built until the upload is done; then it is a copy like any.
    """
    place, local = build_path(node, work), node.path(here(work))
    if is_remote(place):
        return  # it is there already
    remove(place / contents.PASSING)
    sweep(place)
    if is_remote(work):
        remove(node.path(work))
        copy_to(place, node.path(work))
        remove(local)  # an older copy
    publish(place, local)


def drop(node: Node, work: Location) -> None:
    """Removes what was built here of an artifact that another process has finished on the storage."""
    place = build_path(node, work)
    if not is_remote(place):
        discard(place)


def readable(node: Node, work: Location, say: Say) -> Location:
    """Where the finished artifact of ``node`` is read; fetched to this machine first, where that is needed.

    Raises:
        StoreError: a copy is not what the manifest says.
    """
    if not is_remote(work) or _is_read_there(node):
        return node.path(work)
    return fetched(node.path(work), say)


def fetched(artifact: Location, say: Say) -> Path:
    """A whole copy on this machine of an artifact on a storage; an older one is taken if it has the same manifest."""
    if not is_remote(artifact):
        return artifact
    copy = scratch_of(artifact.parent) / artifact.name
    with lock.held(copy, wait=True, say=say):
        if _same_manifest(copy, artifact):
            return copy
        files = files_below(artifact)
        say(f"fetching  {artifact.name} to {copy} ({len(files)} files)")
        remove(copy)
        with appears_whole(copy) as partial:
            _fetch(artifact, files, partial)
    return copy


def at_hand(node: Node, work: Location) -> Location | None:
    """Where the finished artifact of ``node`` can be read without fetching anything; None where it cannot."""
    if not is_remote(work) or _is_read_there(node):
        return node.path(work)
    copy = node.path(here(work))
    return copy if _same_manifest(copy, node.path(work)) else None


def inputs(node: Node, work: Location, say: Say) -> Any:
    """The stage's ``Inputs``; a field the graph gives nothing for is None."""
    absent = dict.fromkeys(node.stage.Inputs.__dataclass_fields__)
    return node.stage.Inputs(**absent | located(node, lambda read: readable(read, work, say)))


def _is_read_there(node: Node) -> bool:
    return getattr(node.stage, "REMOTE", False)


def _has_recipe(place: Path, node: Node) -> bool:
    try:
        return manifest.read(place).fingerprint == node.fingerprint and contents.is_complete(place)
    except StoreError:
        return False


def _same_manifest(copy: Path, artifact: Location) -> bool:
    try:
        return read_bytes(copy / manifest.FILE) == read_bytes(artifact / manifest.FILE)
    except FileNotFoundError:
        return False


def _fetch(artifact: Location, files: Mapping[str, int], folder: Path) -> None:
    for name in files:
        make_folder((folder / name).parent)
    together(lambda name: download(artifact.joinpath(*name.split("/")), folder / name), files)
    _check(artifact, folder)


def _check(artifact: Location, copy: Path) -> None:
    """Raises a StoreError where a file is not what the artifact's list says; older artifacts have no list."""
    if manifest.read(copy).num_files is None:
        return
    expected = contents.read(copy)[0].files
    found = dict(zip(expected, together(lambda name: _sum(copy / name), expected), strict=True))
    if wrong := [name for name in expected if found[name] != expected[name]]:
        what = f"{len(wrong)} files are missing or damaged, the first: {wrong[0]}"
        raise StoreError(what, where=artifact, remedy="run lima verify --repair")


def _sum(file: Path) -> FileSum | None:
    return file_sum(file) if file.is_file() else None
