"""What this machine has and what is missing, with the way to get it.  Imports neither torch nor any stage."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path

import psutil

from lima_core.software import package_version
from lima_core.storage import Location
from pipeline import disk
from pipeline.doctor_engines import engine_lines
from pipeline.manifest import cpu_name

DISTRIBUTION = "lima-lidar"
OPTIONAL = {
    "waymo-open-dataset-tf": "Waymo's own format, not read by this version; pins numpy 1.23 and TensorFlow 2.13",
}


def report(work: Location, environ: Mapping[str, str]) -> tuple[list[str], bool]:
    """Lines to print, and whether everything that is needed is there."""
    pins = tested_versions()
    wrong = [(name, pin) for name, pin in pins.items() if package_version(name) is None]
    lines = [
        _line("python", platform.python_version(), "" if _python_fits() else "needs 3.11 or 3.12"),
        *_packages(pins),
        *_optional(),
        *_machine(work),
        *_hub(environ),
    ]
    remedy = "missing packages: run `make venv`, or pip install -e '.[dev]'" if wrong else "everything needed is here"
    return [*lines, remedy], not wrong and _python_fits()


def tested_versions() -> dict[str, str]:
    """Version of every package that was tested, by name: from the installed package, else from pyproject.toml."""
    source = Path(__file__).parents[1] / "pyproject.toml"
    if source.is_file():
        requirements = tomllib.loads(source.read_text())["project"]["dependencies"]
    else:
        requirements = importlib.metadata.requires(DISTRIBUTION) or []
    pinned = (re.match(r"^([A-Za-z0-9_.-]+)==([^\s;]+)$", text) for text in requirements)
    return {match[1]: match[2] for match in pinned if match}


def gpus() -> list[str]:
    """Name and memory of every GPU that the driver shows; none without a driver."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return []
    query = (tool, "--query-gpu=name,memory.total", "--format=csv,noheader")
    done = subprocess.run(query, capture_output=True, text=True, timeout=30)
    return done.stdout.splitlines() if done.returncode == 0 else []


def _packages(pins: Mapping[str, str]) -> list[str]:
    lines = []
    for name, pin in pins.items():
        version = package_version(name)
        if version is None:
            lines.append(_line(name, "missing", f"pip install {name}=={pin}"))
        else:
            lines.append(_line(name, version, "" if version.partition("+")[0] == pin else f"tested: {pin}"))
    return lines


def _optional() -> list[str]:
    return [
        _line(name, package_version(name) or "not installed", "" if package_version(name) else f"optional, {how}")
        for name, how in OPTIONAL.items()
    ]


def _machine(work: Location) -> list[str]:
    found, torch = gpus(), package_version("torch") or ""
    usable = bool(found) and not torch.endswith("+cpu")
    note = "" if usable or not found else "this torch is built without CUDA: install a CUDA build of the same version"
    memory = f"{disk.size(psutil.virtual_memory().available)} free of {disk.size(psutil.virtual_memory().total)}"
    return [
        _line("cpu", f"{cpu_name()}, {len(os.sched_getaffinity(0))} cores"),
        _line("memory", memory),
        _line("gpu", "; ".join(found) or "none", note),
        _line("device auto", "cuda" if usable else "cpu"),
        *[_line(*parts) for parts in engine_lines(usable, package_version)],
        _line("disk", f"{disk.free_text(work)} for {work}"),
    ]


def _hub(environ: Mapping[str, str]) -> list[str]:
    offline = [name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if environ.get(name, "0") not in ("", "0")]
    home = Path(environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    models = sorted(path.name.removeprefix("models--").replace("--", "/") for path in home.glob("hub/models--*"))
    state = f"offline ({', '.join(offline)})" if offline else "asked for a teacher that is not here (not tried now)"
    here = ", ".join(models) or "none"
    note = "" if models else "the filterbank teacher needs none; or give teacher.model a local folder"
    return [_line("model hub", state), _line("models here", here, note)]


def _python_fits() -> bool:
    return platform.python_version_tuple()[:2] in (("3", "11"), ("3", "12"))


def _line(name: str, value: str, note: str = "") -> str:
    return f"{name:<20} {value}{f'   <- {note}' if note else ''}"
