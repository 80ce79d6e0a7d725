# SPDX-License-Identifier: Apache-2.0
"""What is shipped, and what ships it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_a_source_distribution_has_the_source_and_no_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = pytest.importorskip("scikit_build_core.build")
    monkeypatch.chdir(ROOT)
    with tarfile.open(tmp_path / build.build_sdist(str(tmp_path))) as archive:
        names = [Path(*Path(name).parts[1:]) for name in archive.getnames()]
    folders = {name.parts[0] for name in names if len(name.parts) > 1}
    assert {"src"} <= folders <= {"src", "docs", "runtime", "web"}
    assert {Path("src/slideformer/__init__.py"), Path("CMakeLists.txt"), Path("LICENSE")} <= set(names)
    assert Path("src/slideformer/ops/cpu/csrc/slideformer.h") in names


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_its_commit(workflow: Path) -> None:
    actions = re.findall(r"uses: *(.+)", workflow.read_text(encoding="utf-8"))
    assert actions
    assert [
        action for action in actions if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", action)
    ] == []


@pytest.mark.skipif(shutil.which("perl") is None, reason="needs perl")
def test_the_links_of_the_readme_are_absolute_where_it_is_published(tmp_path: Path) -> None:
    readme = Path(shutil.copy(ROOT / "README.md", tmp_path))
    before = re.findall(r"\]\(([^)]+)\)", readme.read_text(encoding="utf-8"))
    place = {"GITHUB_REPOSITORY": "a/b", "GITHUB_REF_NAME": "v1"}
    subprocess.run(
        [ROOT / ".ci" / "absolute-links", readme], env={**os.environ, **place}, check=True, timeout=60
    )
    images, pages = "https://raw.githubusercontent.com/a/b/v1/", "https://github.com/a/b/blob/v1/"
    wanted = [
        link if ":" in link else (images if link.endswith((".png", ".jpg")) else pages) + link
        for link in before
    ]
    assert re.findall(r"\]\(([^)]+)\)", readme.read_text(encoding="utf-8")) == wanted
    assert f"{images}docs/images/front.png" in wanted


def test_both_distributions_have_the_version_of_the_citation_and_the_changelog() -> None:
    files = ("src/slideformer/version.py", "runtime/src/slideformer_runtime/version.py")
    versions = {
        re.findall(r'__version__ = "(.+)"', (ROOT / file).read_text(encoding="utf-8"))[0] for file in files
    }
    versions |= set(
        re.findall(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    )
    versions |= {
        re.findall(r"^## \[(\d.+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[0]
    }
    assert len(versions) == 1
