# SPDX-License-Identifier: Apache-2.0
"""The metadata of a file are read, or rejected in one line."""

from __future__ import annotations

import json

import pytest
from slideformer_runtime import UserError
from slideformer_runtime.facts import Facts, Preprocessing, read_facts

from tests.runtime.files import FACTS, PREPARED
from tests.runtime.hostile import CHANGES

TEXTS = {key: x if isinstance(x, str) else json.dumps(x) for key, x in {**FACTS, **PREPARED}.items()}


def test_all_facts_are_read() -> None:
    facts = read_facts({**TEXTS, "height": "8", "width": "8"}, "model.onnx")
    assert facts == Facts(
        exporter="0.1.0",
        task="classify",
        architecture="small",
        precision="float32",
        class_names=("red", "green", "blue"),
        batch=None,
        height=8,
        width=8,
        preprocessing=Preprocessing((3, 8, 8), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), "bicubic", 0.875, "center"),
        category_ids=None,
    )


def without(*keys: str) -> dict[str, str]:
    return {key: text for key, text in TEXTS.items() if key not in keys}


BAD = {
    "another program's": ({"producer": "another"}, "model.onnx was not exported by slideformer"),
    "a newer format": (
        {**TEXTS, "slideformer_format": "4"},
        "must be of format 1 to 3, got format 4, of slideformer 0.1.0; export it again",
    ),
    "an older file": (
        without("slideformer_format"),
        "must be of format 1 to 3, got format none, of slideformer 0.1.0",
    ),
    "a fact that is absent": (without("precision"), "must have valid metadata, but precision is missing"),
    "a mean that is absent": (without("mean"), "must have valid metadata, but mean is missing"),
    "no JSON": ({**TEXTS, "std": "[0.1,"}, "must have valid metadata, but std must be JSON"),
    "a size of two sides": ({**TEXTS, "input_size": "[8, 8]"}, "but input_size must be a list of 3"),
    "a side that is not a number": ({**TEXTS, "batch": "[]"}, "but batch must be an integer"),
    "no preprocessing": (without("input_size"), "must have valid metadata, but input_size is missing"),
}


@pytest.mark.parametrize(("metadata", "message"), BAD.values(), ids=BAD)
def test_other_metadata_are_rejected(metadata: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        read_facts(metadata, "model.onnx")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_impossible_metadata_are_rejected_in_one_line(change: dict[str, str]) -> None:
    with pytest.raises(UserError, match="must have valid metadata") as raised:
        read_facts({**TEXTS, **change}, "model.onnx")
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


def test_classes_without_names_are_numbers() -> None:
    assert read_facts({**TEXTS, "class_names": "[]"}, "model.onnx").names(3) == ("0", "1", "2")


def test_names_of_another_number_of_classes_are_rejected() -> None:
    with pytest.raises(UserError, match="must name all 4 classes of its model, got 3 names"):
        read_facts(TEXTS, "model.onnx").names(4)
