# SPDX-License-Identifier: Apache-2.0
"""The notebooks are stored without outputs, their cells run in order, and what they show is so."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.test_words import ALLOWED, GENERATED, found

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MOST_BYTES = 300_000
# Kind of a cell -> the fields that nbformat 4.5 asks for.
FIELDS = {
    "markdown": {"cell_type", "id", "metadata", "source"},
    "code": {"cell_type", "id", "metadata", "source", "execution_count", "outputs"},
}

# The last line of a cell opens a drawing for the reader, and nobody closes it here.
opens_drawings = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def cells(notebook: Path, kind: str) -> list[str]:
    """The text of each cell of a kind."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == kind]


def run_cells(name: str) -> dict[str, Any]:
    """Run the code cells of a notebook in order; the names that they define."""
    names: dict[str, Any] = {}
    for number, cell in enumerate(cells(FOLDER / f"{name}.ipynb", "code"), start=1):
        exec(compile(cell, f"{name}.ipynb, code cell {number}", "exec"), names)
    return names


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the cells write; figures are drawn without a window, and closed in the end."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    pyplot.close("all")


def test_the_notebooks_are_small() -> None:
    assert {path.stem for path in NOTEBOOKS} == {"operator", "train"}
    assert sum(path.stat().st_size for path in NOTEBOOKS) < MOST_BYTES


@each_notebook
def test_a_notebook_is_in_format_4_5_without_outputs(notebook: Path) -> None:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert set(content) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    names = [cell["id"] for cell in content["cells"]]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name)] == []
    for cell in content["cells"]:
        assert set(cell) == FIELDS[cell["cell_type"]], cell["id"]
        assert all(isinstance(line, str) for line in cell["source"]), cell["id"]
        if cell["cell_type"] == "code":
            assert (cell["execution_count"], cell["outputs"]) == (None, []), cell["id"]


@each_notebook
def test_every_code_cell_is_python(notebook: Path) -> None:
    for cell in cells(notebook, "code"):
        ast.parse(cell)


@each_notebook
def test_a_notebook_opens_in_colab_and_installs_what_it_needs(notebook: Path) -> None:
    (address,) = re.findall(
        r"\]\((https://colab.research.google.com/github/[^)]+)\)", cells(notebook, "markdown")[0]
    )
    assert address.endswith(f"/blob/main/docs/notebooks/{notebook.name}")
    first = cells(notebook, "code")[0]
    assert first.startswith("# SPDX-License-Identifier: Apache-2.0\n")
    owner = re.fullmatch(r".*?/github/(.+)/blob/main/.*", address)
    assert owner is not None
    assert f"git+https://github.com/{owner[1]}" in first


@each_notebook
def test_a_notebook_uses_plain_words_and_its_links_lead_somewhere(notebook: Path) -> None:
    text = "\n".join(cells(notebook, "markdown"))
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", text)
    assert targets
    assert [target for target in targets if not (FOLDER / target).exists()] == []
    prose = ALLOWED.sub("", GENERATED.sub("", text))
    assert found(iter(enumerate(prose.splitlines(), start=1))) == []


@pytest.mark.slow
@opens_drawings
def test_the_notebook_on_the_operator_shows_what_it_says(empty_folder: Path) -> None:
    names = run_cells("operator")
    errors = names["errors"]
    assert errors["attention"] < 0.7 * min(errors["noisy"], errors["mean of the window"])
    assert names["difference"] < 1e-5
    assert names["on_map"]["zeros"].startswith("64%")
    assert all(names["on_map"][border].startswith("100%") for border in ("mask", "clamp", "wrap"))
    assert names["reached"]["one column to the right"].nonzero().tolist() == [
        [row, column] for row in (3, 4, 5) for column in (4, 5)
    ]
    assert names["curves"][True][-1] < 0.2 * names["curves"][False][-1]
    assert max(names["merging"], names["gradient"], *names["agreement"].values()) < 1e-4
    assert {"matmul", "reference"} <= set(names["agreement"])
    assert [int((x > 0).sum()) for x in names["seen"].values()] == [9, 25, 81]
    drawn = {"weights.png", "borders.png", "shifts.png", "depth.png"}
    assert drawn == {path.name for path in empty_folder.iterdir()}


@pytest.mark.slow
@opens_drawings
@pytest.mark.timeout(1800)
def test_the_notebook_on_training_reaches_what_it_shows(empty_folder: Path) -> None:
    names = run_cells("train")
    assert names["evaluation"].top1 > 0.95
    assert names["right"] == pytest.approx(names["evaluation"].top1)
    assert names["difference"] < 1e-4
    assert names["weights"].shape[-1] == 9
    assert (empty_folder / "attention.png").exists()
