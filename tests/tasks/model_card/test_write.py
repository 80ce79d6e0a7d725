# SPDX-License-Identifier: Apache-2.0
"""When the card of a folder is written, and when it is left as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
from huggingface_hub import ModelCard

from slideformer.errors import UserError
from slideformer.tasks.model_card.card import Evaluated
from slideformer.tasks.model_card.record import NAME, write_record
from slideformer.tasks.model_card.write import CARD, write_card
from tests.saved import save_classifier
from tests.tasks.model_card.examples import example_record

EVALUATED = Evaluated(figures={"top1": 0.625}, images=8, data="others", command="slideformer evaluate mine")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run with the record of its training, and its card."""
    folder = tmp_path / "run"
    save_classifier(timm.create_model("slide_swin_nano", num_classes=3), folder)
    write_record(example_record("classify"), folder)
    write_card(folder)
    return folder


def top1(folder: Path) -> float:
    """The first figure of a card, as the Hub has it."""
    return ModelCard.load(folder / CARD).data.eval_results[0].metric_value


def test_a_card_is_written_again_with_the_figures_of_an_evaluation(folder: Path) -> None:
    assert top1(folder) == 0.75
    assert write_card(folder, EVALUATED) == folder / CARD
    assert top1(folder) == 0.625
    write_card(folder)  # as a training does, whose weights are others
    assert top1(folder) == 0.75


def test_the_license_is_the_users_and_stays(folder: Path) -> None:
    card = folder / CARD
    assert ModelCard.load(card).data.license == "unknown"
    first, line, *rest = card.read_text().splitlines(keepends=True)
    assert line.startswith("license: unknown  # state yours")
    stated = "license: other\nlicense_name: mine # all mine\nlicense_link: LICENSE\n"
    card.write_text("".join([first, stated, *rest]))
    for _ in range(2):
        write_card(folder, EVALUATED)
        assert stated in card.read_text()
    data = ModelCard.load(card).data
    assert (data.license, data.license_name, data.license_link) == ("other", "mine", "LICENSE")
    assert top1(folder) == 0.625


EDITS: dict[str, Callable[[str], str]] = {
    "a word": lambda text: text.replace("An image classifier", "My image classifier"),
    "a line at the end": lambda text: text + "\nMore.\n",
    "a tag": lambda text: text.replace("- timm\n", "- timm\n- birds\n"),
    "a license in the text": lambda text: text.replace("## Use", "license: free\n\n## Use"),
    "all of it": lambda text: "# Mine\n",
    "nothing left": lambda text: "",
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=list(EDITS))
def test_an_edited_card_is_left_as_it_is(folder: Path, edit: Callable[[str], str]) -> None:
    card = folder / CARD
    mine = edit(card.read_text())
    card.write_text(mine)
    for evaluated in (None, EVALUATED):
        with pytest.raises(UserError, match=r"README.md must be as it was written.* was edited; remove it"):
            write_card(folder, evaluated)
    assert card.read_text() == mine


def test_other_ends_of_lines_are_no_edit(folder: Path) -> None:
    card = folder / CARD
    card.write_bytes(card.read_bytes().rstrip().replace(b"\n", b"\r\n"))
    write_card(folder, EVALUATED)
    assert top1(folder) == 0.625


def test_a_folder_without_a_record_gets_no_card(folder: Path) -> None:
    (folder / NAME).unlink()
    before = (folder / CARD).read_text()
    assert write_card(folder, EVALUATED) is None
    assert (folder / CARD).read_text() == before


def test_a_full_disk_leaves_the_card_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / CARD).read_text()

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match=r"README.md must be writable, but No space left on device"):
        write_card(folder, EVALUATED)
    assert (folder / CARD).read_text() == before
    assert not list(folder.glob(".*"))


def test_a_folder_in_the_place_of_the_card_is_said_in_a_line(folder: Path) -> None:
    (folder / CARD).unlink()
    (folder / CARD).mkdir()
    with pytest.raises(UserError, match=r"README.md must be a regular file, got a folder"):
        write_card(folder)


DAMAGE = {
    "no JSON": ("{", "training.json must be JSON"),
    "a list": ("[]", "training.json must be a JSON object"),
    "nothing": ("{}", "lacks 'chosen_by'"),
    "epoch": ({"epoch": "last"}, "epoch in .*training.json must be a whole number"),
    "figures": ({"figures": {"top1": "best"}}, "figures in .* must be finite numbers by name"),
    "recipe": ({"recipe": {"rate": 1}}, "recipe in .* must be texts by name"),
    "average": ({"average": 1}, "average in .* must be true or false"),
    "speed": ({"images_per_second": -1}, "images_per_second in .* must be a number"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_record_is_said_in_a_line(folder: Path, damage: str) -> None:
    content, message = DAMAGE[damage]
    file = folder / NAME
    text = content if isinstance(content, str) else json.dumps({**json.loads(file.read_text()), **content})
    file.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        write_card(folder)
    assert "\n" not in str(caught.value)


def test_a_figure_that_is_not_known_is_not_stated(folder: Path) -> None:
    file = folder / NAME
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "figures": {"beauty": 1.0, "top1": 0.5}, "more": 1}))
    write_card(folder)
    assert "beauty" not in (folder / CARD).read_text()
    assert top1(folder) == 0.5
