"""Stores of scenes: a Zarr group that declares beforehand what it will hold, and one part for every scene.

What is declared (schema, scenes, facts) are the attributes of the group; a part is whole when it is there
(``lima_core.checksums``).
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lima_core.checksums import GROUP, is_sealed, read_attributes
from lima_core.claim import SUFFIX
from lima_core.errors import StoreError
from lima_core.storage import Location, is_file
from lima_core.whole import write_json

PARALLEL_REQUESTS = 16


def declare(root: Location, facts: dict[str, Any]) -> None:
    """Declares the store, or checks that the one that is already there was declared with the same facts.

    Args:
        root: folder of the group.
        facts: JSON values, ``schema`` and ``scenes`` among them.

    Raises:
        StoreError: an earlier, unfinished run declared other facts (other weights under the same name, for example).
    """
    if not is_file(root / GROUP):
        write_declaration(root, facts)
        return
    stored = read_attributes(root)
    for name, value in facts.items():
        if stored.get(name) != value:
            what = f"an unfinished run wrote {name} = {stored.get(name)!r}, now it is {value!r}"
            raise StoreError(what, where=root, remedy="remove the folder to start again")


def write_declaration(root: Location, facts: dict[str, Any]) -> None:
    """Writes the group's metadata anew, whole."""
    write_json(root / GROUP, {"zarr_format": 3, "node_type": "group", "attributes": facts})


def declared(root: Location, schema: str, what: str, stage: str) -> dict[str, Any]:
    """What a finished store declared.

    Args:
        root: folder of the group.
        schema: the one that is read.
        what: the store's name in messages.
        stage: that builds it.

    Raises:
        StoreError: there is none, it is of another schema version, or scenes are missing.
    """
    remedy = f"build it with: lima stage {stage}"
    if not is_file(root / GROUP):
        raise StoreError(f"holds no {what}", where=root.parent, remedy=remedy)
    facts = read_attributes(root)
    if facts.get("schema") != schema:
        found = f"{what} of schema {facts.get('schema')!r}, this version reads {schema!r}"
        raise StoreError(found, where=root.parent, remedy=f"{remedy} again")
    scenes = facts.get("scenes")
    if not isinstance(scenes, list) or not all(isinstance(scene, str) and is_scene_name(scene) for scene in scenes):
        raise StoreError("unreadable metadata (scenes)", where=root / GROUP, remedy="run lima verify --repair")
    if missing := missing_scenes(root, scenes):
        found, total = len(scenes) - len(missing), len(scenes)
        raise StoreError(f"{found} of {total} scenes, the first missing is {missing[0]}", where=root, remedy=remedy)
    return facts


def is_scene_name(scene: str) -> bool:
    """Whether a scene of this name may be a folder beside its store's ``zarr.json`` and its writers' own folders."""
    patterns = set("*?[")  # of which some object storages make others' names
    return not (scene in ("", GROUP) or scene[0] == "." or SUFFIX in scene or patterns.union("/").intersection(scene))


def scene_part(root: Location, scene: str) -> Location:
    """Folder of one scene's group."""
    assert is_scene_name(scene), scene
    return root / scene


def missing_scenes(root: Location, scenes: Sequence[str]) -> list[str]:
    """Those of ``scenes`` whose part is not there."""
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
        there = pool.map(lambda scene: is_sealed(scene_part(root, scene)), scenes)
        return [scene for scene, is_there in zip(scenes, there, strict=True) if not is_there]


def scene_attributes(root: Location, scenes: Sequence[str]) -> list[dict[str, Any]]:
    """Attributes of the parts of ``scenes``, in their order.

    Raises:
        StoreError: one of them is not there or not readable.
    """
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
        return list(pool.map(lambda scene: read_attributes(scene_part(root, scene)), scenes))
