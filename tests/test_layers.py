"""Imports point down: lima_core <- stages <- pipeline, and inside lima_core only to lower rows or to itself."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("lima_core", "stages", "pipeline")
ROWS = (
    (
        "types",
        "errors",
        "seeds",
        "parallel",
        "cluster",
        "worker_process",
        "whole",
        "claim",
        "storage",
        "patience",
        "checksums",
        "packing",
        "cost",
        "gpu",
        "software",
        "peak",
    ),
    ("geometry", "sparse", "training"),
    ("datasets", "teachers", "superpixels", "stores", "metrics"),
    ("memory", "models", "loading", "synthetic", "poses"),
    ("methods", "tasks"),
    ("viz",),
)
ROW = {name: row for row, names in enumerate(ROWS) for name in names}


def modules(source: str, package: str) -> Iterator[str]:
    """Absolute names of everything a file imports, at its top or inside its functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: -node.level + 1 or None]) if node.level else ""
            parent = ".".join(part for part in (base, node.module) if part)
            yield from (f"{parent}.{alias.name}" for alias in node.names)


def violation(importer: str, imported: str) -> str | None:
    """What is wrong with an import between two dotted names of ours; None when it is allowed."""
    mine, theirs = importer.split("."), imported.split(".")
    if theirs[0] not in PACKAGES:
        return None
    if PACKAGES.index(theirs[0]) > PACKAGES.index(mine[0]):
        return f"{mine[0]} must not import {theirs[0]}"
    if mine[0] == theirs[0] == "stages" and len(mine) > 1 and mine[1] != theirs[1]:
        return "a stage must not import another stage"
    if not mine[0] == theirs[0] == "lima_core" or len(mine) < 2 or len(theirs) < 2:
        return None
    unknown = [name for name in (mine[1], theirs[1]) if name not in ROW]
    if unknown:
        return f"{unknown[0]} is in no row: add it to ROWS"
    if mine[1] != theirs[1] and ROW[mine[1]] <= ROW[theirs[1]] and ROW[mine[1]] > 0:
        return f"{mine[1]} (row {ROW[mine[1]]}) must not import {theirs[1]} (row {ROW[theirs[1]]})"
    return f"row 0 must not import {theirs[1]}" if ROW[mine[1]] == 0 and ROW[theirs[1]] > 0 else None


FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    wrong = [problem for module in modules(path.read_text(), package) if (problem := violation(name, module))]
    assert not wrong


@pytest.mark.parametrize(
    ("importer", "source", "problem"),
    [
        ("lima_core.geometry.voxels", "from lima_core.stores import ragged", "geometry (row 1) must not import stores"),
        ("lima_core.geometry.voxels", "def f():\n    import lima_core.stores.codec", "geometry (row 1) must not"),
        ("lima_core.types", "from lima_core import geometry", "row 0 must not import geometry"),
        ("lima_core.models.minkunet", "import stages", "lima_core must not import stages"),
        ("stages.distill", "from pipeline.node import Node", "stages must not import pipeline"),
        ("stages.distill", "from stages import index", "a stage must not import another stage"),
        ("lima_core.geometry.camera", "from ..models import minkunet", "geometry (row 1) must not import models"),
        ("lima_core.novel.thing", "from lima_core import types", "novel is in no row"),
    ],
)
def test_a_wrong_import_is_seen(importer: str, source: str, problem: str) -> None:
    found = [violation(importer, module) for module in modules(source, importer.rpartition(".")[0])]
    assert [line.startswith(problem) for line in found if line] == [True]


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("lima_core.stores.feature_store", "from lima_core.stores import codec\nfrom lima_core import types"),
        ("pipeline.graph", "from stages import index\nfrom lima_core.datasets import open_dataset"),
        ("lima_core.tasks.segmentation", "from lima_core.models.heads import build_head"),
    ],
)
def test_a_right_import_is_not(importer: str, source: str) -> None:
    assert not [problem for module in modules(source, "x") if (problem := violation(importer, module))]


def test_every_folder_with_python_files_is_a_package() -> None:
    folders = {path.parent for path in FILES}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []
