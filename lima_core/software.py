"""Versions and code that must be the same in every process that writes one artifact, for the same bytes."""

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from lima_core.errors import ConfigError

PACKAGES = ("numpy", "torch", "zarr", "pyarrow", "pydantic", "nuscenes-devkit", "transformers", "trimesh", "embreex")
"""Packages whose version can change a number or a file."""
CODE = ("lima_core", "stages")
"""Packages of ours that work in workers."""


@cache
def software() -> dict[str, str | None]:
    """Of this process, by what it is called in a message; asked once, for later edits are not in what is loaded."""
    packages = {name: package_version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **packages, "lima": code_digest(Path(__file__).parents[1])}


def require_same(own: Mapping[str, str | None], theirs: Mapping[str, str | None], worker: str) -> None:
    """Raises a ConfigError that names the first difference between the client and a worker, if there is one."""
    for name, version in own.items():
        if (found := theirs.get(name)) != version:
            shown = "lima's code" if name == "lima" else name
            what = f"has {shown} {found or 'not at all'}, this process {version or 'not at all'}"
            raise ConfigError(what, where=f"worker {worker}", remedy="install the same there and start it again")


def package_version(name: str) -> str | None:
    """Installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def code_digest(root: Path) -> str:
    """12 hexadecimal digits over every Python file of ``CODE``: it tells edited checkouts apart, too."""
    found = hashlib.sha256()
    for path in sorted(path for package in CODE for path in (root / package).rglob("*.py")):
        found.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:12]
