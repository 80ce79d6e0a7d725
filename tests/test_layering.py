# SPDX-License-Identifier: Apache-2.0
"""Imports point strictly downward, and packages of one floor do not import each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "slideformer"
FLOORS = (
    {"ops"},
    {"layers"},
    {"models", "compat"},
    {"dense"},
    {"runs", "viz"},
    {"tasks"},
    {"deploy"},
    {"bench"},
    {"cli"},
)
FLOOR = {package: floor for floor, packages in enumerate(FLOORS) for package in packages}
# Modules that every floor may use.
GROUND = {"console", "errors", "files", "lazy", "version"}
# A library, and the floors that must not import it.
UPSTAIRS = {
    "timm": {"ops", "layers"},
    "triton": set(FLOOR) - {"ops"},
    "lightning": set(FLOOR) - {"tasks"},
}
LONGEST = 400


def imported(source: str) -> Iterator[str]:
    """Full names that a source imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def trespasses(package: str, source: str) -> list[str]:
    """Imports that a file of a package may not have."""
    found = []
    for name in imported(source):
        parts = name.split(".")
        if parts[0] == "slideformer":
            other = parts[1]
            below = other in GROUND or other == package or FLOOR.get(other, 9) < FLOOR[package]
            found += [] if below else [name]
        elif package in UPSTAIRS.get(parts[0], set()):
            found.append(name)
    return found


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize(
    "file", [f for f in FILES if f.parent != SOURCE], ids=lambda f: str(f.relative_to(SOURCE))
)
def test_a_file_imports_only_from_the_floors_below(file: Path) -> None:
    package = file.relative_to(SOURCE).parts[0]
    assert trespasses(package, file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("ops", "from slideformer.layers import SlideAttention"),
        ("layers", "import timm"),
        ("models", "import slideformer.cli.main"),
        ("compat", "from slideformer.models import SlideSwin"),
        ("viz", "from slideformer.runs import open_run"),
        ("runs", "from slideformer.tasks.predict import predict"),
        ("viz", "def f():\n    from slideformer.tasks.classify import train"),
        ("deploy", "from lightning.pytorch import Trainer"),
        ("layers", "import triton.language"),
        ("layers", "from slideformer import models"),
    ],
)
def test_a_trespass_is_seen(package: str, line: str) -> None:
    assert trespasses(package, line)


def test_nothing_but_its_own_tests_imports_the_command_line() -> None:
    places = [
        *(ROOT / "benchmarks").rglob("*.py"),
        *(f for f in FILES if f.relative_to(SOURCE).parts[0] != "cli"),
    ]
    users = {
        str(place.relative_to(ROOT))
        for place in places
        if any(name.startswith("slideformer.cli") for name in imported(place.read_text(encoding="utf-8")))
    }
    # The entry point of the command.
    assert users == {"src/slideformer/__main__.py"}


def test_every_package_has_a_floor() -> None:
    packages = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert packages == set(FLOOR)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_a_file_is_of_readable_length_and_names_an_idea(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= LONGEST
    assert file.stem not in {"utils", "common", "helpers", "misc"}


@pytest.mark.parametrize(
    "file", [*FILES, *sorted((ROOT / "tests").rglob("*.py"))], ids=lambda f: str(f.relative_to(ROOT))
)
def test_a_file_names_its_licence(file: Path) -> None:
    assert file.read_text(encoding="utf-8").startswith("# SPDX-License-Identifier: Apache-2.0\n")
