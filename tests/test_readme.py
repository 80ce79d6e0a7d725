# SPDX-License-Identifier: Apache-2.0
"""What the pages say is so: their Python runs, their links lead somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from torch import nn

from slideformer.cli.main import VERBS, main
from tests.exported import CLASSES, classifier_of_one_block, exported_classifier
from tests.saved import save_classifier

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
# In a command, the word after the program's name.
VERB = r"slideformer ([a-z][a-z-]*)(?=\s|$)"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


OWN_NETWORK = ROOT / "docs" / "own-network.md"
OPERATOR = ROOT / "docs" / "operator.md"


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def run_blocks(page: Path) -> dict[str, Any]:
    """Run the blocks of a page in order; the names that they define."""
    names: dict[str, Any] = {}
    for block in python_blocks(page.read_text(encoding="utf-8")):
        exec(compile(block, page.name, "exec"), names)
    return names


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
    names = run_blocks(README)
    assert names["y"].shape == (1, 56, 40, 96)
    assert names["logits"].shape == (1, 10)
    assert capsys.readouterr().out.split()[1] in CLASSES
    assert max(row.largest for row in names["report"].differences) < 1e-4


# What makes a command end in seconds.
QUICKER = {
    "train": ("--epochs", "1", "--trainer.accelerator", "cpu"),
    "train detect": ("--epochs", "1", "--trainer.accelerator", "cpu", "--trainer.limit_train_batches", "2"),
}


@pytest.mark.slow
def test_every_command_about_training_runs(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(photos / "train", tmp_path / "PHOTOS")
    Image.new("RGB", (60, 40), "teal").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    create = timm.create_model

    def without_network(name: str, **options: Any) -> nn.Module:
        return create(name, **{**options, "pretrained": False})

    monkeypatch.setattr(timm, "create_model", without_network)
    assert main(["scenes", "data/scenes", "--train", "8", "--val", "4"]) == 0
    section = README.read_text(encoding="utf-8").split("## Train, look, export")[1].split("\n## ")[0]
    lines = [
        shlex.split(line, comments=True) for line in re.findall("^slideformer .*", section, re.MULTILINE)
    ]
    assert {words[1] for words in lines} >= {"check-data", "train", "evaluate", "predict", "export"}
    for _, *words in lines:
        quicker = QUICKER.get(" ".join(words[:2]), QUICKER.get(words[0], ()))
        assert main([*words, *quicker]) == 0, words
    assert (tmp_path / "runs" / "photos" / "model.onnx").exists()


@pytest.mark.slow
def test_every_python_block_about_inference_runs(folder_of_a_reader: Path) -> None:
    run_blocks(ROOT / "docs" / "inference.md")
    assert (folder_of_a_reader / "attention.png").exists()
    assert list((folder_of_a_reader / "drawn").iterdir())


def test_an_exported_file_goes_by_hand(folder_of_a_reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_blocks(ROOT / "docs" / "deploy.md")
    assert capsys.readouterr().out.strip() in CLASSES


@pytest.mark.slow
def test_every_python_block_about_a_network_of_your_own_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_blocks(OWN_NETWORK)
    assert len(names["differences"]) == 4
    assert max(names["differences"]) < 1e-4
    assert names["top1"] > 0.9
    assert abs(names["top1_int8"] - names["top1"]) < 0.02
    with torch.no_grad():
        for other in (names["merged"], names["compiled"]):
            x = torch.randn(2, 1, 11, 17)
            torch.testing.assert_close(other(x), names["network"](x), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true")
def test_every_python_block_about_transformers_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    monkeypatch.chdir(tmp_path)
    save_classifier(
        classifier_of_one_block(CLASSES), "runs/mine", class_names=CLASSES, input_size=(3, 32, 32)
    )
    Image.new("RGB", (60, 40), "teal").save("photo.jpg")
    for name, colour in (("daisy", "white"), ("rose", "red")):
        (tmp_path / "flowers" / name).mkdir(parents=True)
        for number in range(8):
            Image.new("RGB", (50, 40), colour).save(f"flowers/{name}/{number}.png")
    torch.manual_seed(0)
    names = run_blocks(ROOT / "docs" / "transformers.md")
    shares = torch.tensor([row["score"] for row in names["found"]])
    torch.testing.assert_close(names["logits"][0].softmax(0).sort(descending=True).values, shares)
    assert [result.classes[0][0] for result in names["results"]] == ["daisy"] * 8 + ["rose"] * 8
    assert torch.isfinite(names["loss"])


def test_every_python_block_about_natten_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("natten", "natten.functional"):  # which the page replaces, here until the test ends
        monkeypatch.setitem(sys.modules, name, sys)
    names = run_blocks(ROOT / "docs" / "natten.md")
    assert names["y"].shape == (1, 24, 30, 64)
    assert sys.modules["natten.functional"].natten2dqk is names["natten"].functional.natten2dqk
    assert not torch.equal(names["globe"], names["gaps"])


def test_every_python_block_about_the_operator_runs() -> None:
    names = run_blocks(OPERATOR)
    assert names["turned"] < 1e-5
    assert names["padded"] < 1e-5
    assert names["music"].shape == (1, 100_000, 32)
    assert names["scan"].shape == (1, 8, 24, 24, 32)


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
