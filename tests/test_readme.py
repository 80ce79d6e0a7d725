# SPDX-License-Identifier: Apache-2.0
"""What the pages say is so: their Python runs, their links lead somewhere."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from slideformer.cli.main import VERBS
from tests.exported import CLASSES, exported_classifier

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
# In a command, the word after the program's name.
VERB = r"slideformer ([a-z][a-z-]*)(?=\s|$)"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder_of_a_reader(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """What somebody has who followed the page so far: a trained, exported run, and a photo."""
    shutil.copytree(exported_classifier(tmp_path_factory), tmp_path / "runs" / "mine")
    Image.new("RGB", (60, 40), "teal").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_every_python_block_of_the_readme_runs(
    folder_of_a_reader: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = python_blocks(README.read_text(encoding="utf-8"))
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert capsys.readouterr().out.split()[-1] in CLASSES
    assert (folder_of_a_reader / "attention.png").exists()


def test_every_command_of_the_pages_is_a_verb() -> None:
    verbs = {verb for page in PAGES for verb in re.findall(VERB, commands(page))}
    assert {"train", "evaluate", "predict", "export", "check-data"} <= verbs <= set(VERBS)


def commands(page: Path) -> str:
    """The shell blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^```bash\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))


def test_a_block_is_found_between_its_fences() -> None:
    assert python_blocks("```python\na = 1\n```\ntext\n```bash\nls\n```\n") == ["a = 1\n"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []
