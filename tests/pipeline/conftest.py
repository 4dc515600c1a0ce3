"""Toy stages and a graph of two of them."""

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from pipeline.node import Node

TOYS = Path(__file__).parent / "toys"


def load_toy(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"toys.{name}", TOYS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def toys() -> SimpleNamespace:
    make, add = load_toy("make_numbers"), load_toy("add_numbers")
    make_parts, add_parts = load_toy("make_parts"), load_toy("add_parts")

    def numbers(name: str = "numbers", raw: object = None, **config: object) -> Node:
        return Node(name, make, make.Config(**config), {"raw": raw} if raw else {})

    def total(read: Node, **config: object) -> Node:
        return Node("total", add, add.Config(**config), {"numbers": read})

    def parts(read: Node | None = None, **config: object) -> Node:
        return Node("parts", make_parts, make_parts.Config(**config), {"numbers": read} if read else {})

    def whole(read: Node, **config: object) -> Node:
        return Node("whole", add_parts, add_parts.Config(**config), {"parts": read})

    return SimpleNamespace(make=make, add=add, numbers=numbers, total=total, parts=parts, whole=whole)
