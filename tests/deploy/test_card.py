# SPDX-License-Identifier: Apache-2.0
"""What a file says of itself is read as it was written."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from slideformer.cli.main import main
from slideformer.deploy import RUNTIMES, Card, Sizes, fingerprint
from slideformer.deploy.attention import AttentionLayer
from slideformer.errors import UserError
from slideformer.runs import Facts, Preprocessing
from slideformer.runs.preprocessing import read_preprocessing
from slideformer.version import __version__
from tests.deploy.small import Tiny
from tests.runtime.files import PREPARED
from tests.runtime.hostile import CHANGES

FILE = Path("model.onnx")


def card_of(task: Any = "classify", weights: str = "ab", precision: str = "float32", **facts: Any) -> Card:
    return Card(precision, "matmul", weights, Facts(task=task, architecture="x", **facts))


HOW = Preprocessing(
    input_size=(3, 30, 30),
    mean=(0.1, 0.2, 1 / 3),
    std=(1.0, 1.0, 1.0),
    interpolation="bicubic",
    crop_pct=0.875,
)
CARD = replace(card_of(weights="0123456789abcdef"), sizes=Sizes(2, None, 30))
SHIFT = ((1.0, -0.25, 0.5), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
LAYER = AttentionLayer("attention_1", 1, 2, (1, 3), (1, 1), ("zeros", "wrap"), 4, 2, SHIFT)
CARDS = {
    "sizes": CARD,
    "any size": card_of("detect"),
    "a fingerprint of digits": card_of(weights="1234567890123456", precision="int8"),
    "a fingerprint like a power": card_of(weights="12345678901234e5", precision="int8"),
    "classes like numbers": card_of(class_names=("0", "1e3", "null", "-7", "")),
    "classes of other scripts": card_of("segment", class_names=("ölbaum", "木")),
    "preprocessing": card_of(preprocessing=HOW, num_classes=3),
    "numbers of classes": card_of("detect", category_ids=(1, 7, 90)),
    "held-out part": card_of(preprocessing=HOW, val_fraction=0.2),
    "random weights": card_of(random=True, preprocessing=HOW),
    "masks": replace(card_of("detect"), masks=True),
    "attention": replace(
        card_of("segment"), attention=(LAYER, replace(LAYER, shift=None, stage=None, block=None))
    ),
}


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_a_card_is_read_as_it_was_written(card: Card) -> None:
    texts = card.texts()
    assert all(isinstance(text, str) for text in texts.values())
    assert Card.of(texts, FILE) == card


def test_only_masks_and_attention_need_a_newer_reader() -> None:
    formats = {name: card.texts()["slideformer_format"] for name, card in CARDS.items()}
    assert {name for name, number in formats.items() if number != "1"} == {"masks", "attention"}
    assert (formats["masks"], formats["attention"]) == ("2", "3")


OF_LAYER: dict[str, dict[str, Any]] = {
    "output": {"output": 3},
    "stage": {"stage": 0},
    "kernel_size": {"kernel_size": [3]},
    "border": {"border": ["zeros", "torn"]},
    "stride": {"stride": -1},
    "shift": {"shift": [[1.0, 0.0], [0.0, 1.0]]},
}


@pytest.mark.parametrize(("name", "change"), OF_LAYER.items(), ids=OF_LAYER)
def test_a_layer_that_cannot_be_is_refused_in_a_line(name: str, change: dict[str, Any]) -> None:
    texts = CARDS["attention"].texts()
    layers = [{**LAYER.values(), **change}]
    with pytest.raises(UserError, match=rf"{name} in model\.onnx must be") as raised:
        Card.of({**texts, "attention": json.dumps(layers)}, FILE)
    assert "\n" not in str(raised.value)
    for text in ("[3]", "{}", '"layer"'):
        with pytest.raises(UserError, match="attention in"):
            Card.of({**texts, "attention": text}, FILE)


def test_a_card_tells_which_version_wrote_it() -> None:
    assert CARD.texts()["slideformer"] == __version__


REFUSED = {
    "nothing": ({}, "model.onnx must be a file that `slideformer export` wrote"),
    "other": ({"author": "someone"}, "has none of its metadata; export it again"),
    "format": (
        {**CARD.texts(), "slideformer_format": "0", "slideformer": "0.0.1"},
        r"must have the format 1 to 3, got 0, of slideformer 0\.0\.1; export it again with this version",
    ),
    "incomplete": (
        {name: text for name, text in CARD.texts().items() if name not in ("weights", "height")},
        "must state its weights, height, but does not",
    ),
}


@pytest.mark.parametrize(("texts", "message"), REFUSED.values(), ids=REFUSED)
def test_a_card_of_something_else_is_refused(texts: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Card.of(texts, FILE)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_nobody_should_believe_is_refused_in_a_line(change: dict[str, str]) -> None:
    how = read_preprocessing(PREPARED, FILE)
    card = card_of(preprocessing=how, class_names=("ant", "bee", "cat"))
    assert Card.of(card.texts(), FILE) == card
    with pytest.raises(UserError, match=r"model\.onnx") as raised:
        Card.of({**card.texts(), **change}, FILE)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


def test_sizes_give_the_input_that_a_file_takes() -> None:
    assert Sizes().of(2, 30, 40) == (2, 30, 40)
    assert Sizes(1, None, 64).of(2, 30, 40) == (1, 30, 64)
    assert str(Sizes(1, None, 64)) == "1 x any x 64"


def test_equal_weights_have_one_fingerprint() -> None:
    assert fingerprint(Tiny(0)) == fingerprint(Tiny(0))
    assert re.fullmatch("[0-9a-f]{16}", fingerprint(Tiny(0)))


def nudged() -> nn.Module:
    """One number of one weight is the next one that there is."""
    model = Tiny(0)
    weight = model.head.weight.detach()
    weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(torch.inf))
    return model


def renamed() -> nn.Module:
    """The same weights by other names."""
    model = Tiny(0)
    model.other = model.head
    del model.head
    return model


OTHERS = {"weights": Tiny(1), "one number": nudged(), "names": renamed(), "half": Tiny(0).half()}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_another_model_has_another_fingerprint(other: nn.Module) -> None:
    assert fingerprint(other) != fingerprint(Tiny(0))


def test_weights_have_one_fingerprint_however_they_lie_in_memory() -> None:
    model = Tiny(0)
    model.conv.weight.data = model.conv.weight.data.contiguous(memory_format=torch.channels_last)
    assert fingerprint(model) == fingerprint(Tiny(0))


def test_the_card_of_a_package_with_code_is_read_without_running_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*given: object) -> None:
        raise AssertionError("the package was opened")

    monkeypatch.setattr("torch._inductor.aoti_load_package", opened)
    file = tmp_path / "model.pt2"
    with zipfile.ZipFile(file, "w") as package:
        package.writestr("model/data/aotinductor/model/wrapper.so", b"not even a library")
        package.writestr("model/data/aotinductor/model/other_metadata.json", "{}")
        metadata = json.dumps({"slideformer_card": json.dumps(CARD.texts())})
        package.writestr("model/data/aotinductor/model/wrapper_metadata.json", metadata)
    assert RUNTIMES["torch"].card(file) == CARD


def test_a_package_with_code_is_not_opened_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def opened(*given: object) -> None:
        raise AssertionError("the package was opened")

    monkeypatch.setattr("torch._inductor.aoti_load_package", opened)
    file = tmp_path / "model.pt2"
    with zipfile.ZipFile(file, "w") as package:
        metadata = json.dumps({"slideformer_card": json.dumps(CARD.texts())})
        package.writestr("model/data/aotinductor/model/wrapper_metadata.json", metadata)
    assert main(["verify", str(file)]) == 2
    message = f"error: {file} holds machine code that runs when it is opened; add --run-code if it is yours\n"
    assert capsys.readouterr().err == message
