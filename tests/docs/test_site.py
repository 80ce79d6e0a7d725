# SPDX-License-Identifier: Apache-2.0
"""The documentation site builds without a warning, and its reference has every public name."""

from __future__ import annotations

import importlib
import re
import runpy
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from slideformer.cli.bench import OTHERS, SUBJECTS
from slideformer.cli.main import VERBS
from tests.shared import made_once

pytest.importorskip("sphinx", reason="needs sphinx, of the extra docs")

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PUBLIC = (
    "slideformer",
    "slideformer.bench",
    "slideformer.compat.natten",
    "slideformer.dense",
    "slideformer.deploy",
    "slideformer.layers",
    "slideformer.models",
    "slideformer.ops",
    "slideformer.runs",
    "slideformer.tasks.classify",
    "slideformer.viz",
    "slideformer_runtime",
)


def build(folder: Path) -> None:
    """Build the site as `make docs` does."""
    recipe = re.search(r"-m (sphinx .*) docs build/docs$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    options = recipe[1].split()
    assert {"-W", "-n"} <= set(options)
    built = subprocess.run(
        [sys.executable, "-m", *options, str(DOCS), str(folder)],
        capture_output=True,
        text=True,
        timeout=1100,
        check=False,
    )
    assert built.returncode == 0, built.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "site", build)


def inventory(site: Path) -> dict[str, str]:
    """Python names of a built site, and what each is: the lines of its compressed `objects.inv`."""
    content = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    lines = [line.split(" ", 2) for line in zlib.decompress(content).decode().splitlines()]
    return {name: role for name, role, _ in lines if role.startswith("py:")}


def found(name: str) -> object:
    """What a dotted name means; of a function and the module that it is in, both `export`, the function."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        try:
            thing: object = importlib.import_module(".".join(parts[:count]))
            for part in parts[count:]:
                fields = getattr(thing, "__dataclass_fields__", {})
                thing = fields[part] if part in fields else getattr(thing, part)
        except (AttributeError, ModuleNotFoundError):
            continue
        return thing
    raise LookupError(f"{name} does not exist")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_public_name_is_in_the_reference(site: Path) -> None:
    names = inventory(site)
    # Names that are passed on from another public package are described once.
    described = {id(found(name)) for name, role in names.items() if role in ("py:class", "py:function")}
    public = [f"{package}.{name}" for package in PUBLIC for name in importlib.import_module(package).__all__]
    assert len(public) > 130
    assert [name for name in public if name not in names and id(found(name)) not in described] == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_reference_has_no_name_that_does_not_exist(site: Path) -> None:
    for name in inventory(site):
        found(name)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_page_of_the_command_line_shows_the_help_of_every_verb(site: Path) -> None:
    page = (site / "reference" / "command-line.html").read_text(encoding="utf-8")
    assert [verb for verb in VERBS if f"usage: slideformer {verb}" not in re.sub("<[^>]+>", "", page)] == []


def test_the_configuration_can_be_read() -> None:
    before = list(sys.path)
    configuration = runpy.run_path(str(DOCS / "conf.py"))
    sys.path[:] = before
    assert configuration["html_theme"] == "furo"
    # What is ignored are types of other libraries: no name of ours.
    patterns = [pattern for _, pattern in configuration["nitpick_ignore_regex"]]
    assert not any(re.fullmatch(pattern, "slideformer.runs.Run") for pattern in patterns)


def test_every_page_is_in_the_index_once() -> None:
    trees = re.findall(
        r"^```\{toctree\}\n(.*?)^```", (DOCS / "index.md").read_text(), re.DOTALL | re.MULTILINE
    )
    entries = [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]
    pages = {str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.rglob("*.md")} - {"index"}
    assert {"operator", "tutorials/photos", "reference/slideformer"} <= pages
    assert sorted(entries) == sorted(pages)


def test_the_table_of_verbs_is_that_of_the_command_line() -> None:
    page = (DOCS / "reference" / "command-line.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| `slideformer (\S+)` \| (.*) \|$", page, re.MULTILINE)) == VERBS
    block = re.search(r"^```\{help\}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert block is not None
    lines = block[1].splitlines()
    assert list(dict.fromkeys(line.split()[0] for line in lines)) == list(VERBS)
    assert {line for line in lines if line.startswith("bench ")} == {
        f"bench {x}" for x in {*SUBJECTS, *OTHERS}
    }
