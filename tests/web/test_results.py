# SPDX-License-Identifier: Apache-2.0
"""The page's modules make of a model's outputs what the library makes of them, in its colours."""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ImageColor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from slideformer.viz import class_colours
from slideformer.viz.detections import CLASS_COLOURS
from tests.web.test_modules import node

if shutil.which("node") is None:
    pytest.skip("needs node", allow_module_level=True)

HEIGHT, WIDTH = 57, 83
CALL = """
import { readFileSync } from "node:fs";
import { objectsOf } from "./detections.js";
import { segmentsOf } from "./segments.js";
import { pasted } from "./masks.js";

const KINDS = { float32: Float32Array, int64: BigInt64Array };
const number = (type) => (type === "int64" ? BigInt : (x) => x ?? NaN);
const tensor = ({ type, dims, values }) => ({ type, dims, data: KINDS[type].from(values, number(type)) });
const CALLS = {
  objects: ({ outputs, about, least }) => objectsOf(outputs.map(tensor), about, least),
  segments: ({ outputs, about }) => segmentsOf(outputs.map(tensor), about),
  pasted: ({ mask, side, box, image }) => pasted(Float32Array.from(mask), side, box, image),
};
const plain = (key, x) => (ArrayBuffer.isView(x) ? Array.from(x) : x);
const call = ({ name, ...given }) => {
  try {
    return CALLS[name](given);
  } catch (error) {
    return { kind: error.constructor.name, message: error.message };
  }
};
console.log(JSON.stringify(JSON.parse(readFileSync(0)).map(call), plain));
"""
COLOURS = """
import { colourOfObject, coloursOfClasses } from "./colours.js";

const objects = Array.from({ length: 9 }, (_, number) => colourOfObject(number + 1));
console.log(JSON.stringify([objects, coloursOfClasses(40, false), coloursOfClasses(5, true)]));
"""
ABOUT = {
    "classNames": ["ant", "bee"],
    "file": "m.onnx",
    "image": "a.png",
    "batch": 1,
    "size": {"height": HEIGHT, "width": WIDTH},
}


def call(*cases: dict[str, Any]) -> Any:
    """What functions of the page return, or the errors that they raise."""
    return json.loads(node(CALL, list(cases)))


def output(values: Any, kind: str = "float32") -> dict[str, Any]:
    """A tensor as the page gets it; null for what is not a number."""
    array = np.asarray(values)
    flat = [None if x != x else x for x in array.ravel().tolist()]
    return {"type": kind, "dims": list(array.shape), "values": flat}


def test_colours_are_those_of_predict() -> None:
    objects, classes, with_background = json.loads(node(COLOURS, []))
    known = [list(ImageColor.getrgb(colour)) for colour in CLASS_COLOURS]
    assert objects == [*known, *known][:9]
    assert classes == [list(colour) for colour in class_colours(40)]
    assert with_background == [list(colour) for colour in class_colours(5, background=True)]


def test_masks_are_pasted_as_torchvision_does() -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(40, 4, generator=generator) * torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
    boxes = torch.cat([corners[:, :2].minimum(corners[:, 2:]), corners[:, :2].maximum(corners[:, 2:])], dim=1)
    boxes[0], boxes[1] = torch.tensor([0, 0, WIDTH, HEIGHT]), torch.tensor([9.0, 9, 9, 9])
    masks = torch.rand(40, 28, 28, generator=generator)
    wanted = paste_masks_in_image(masks[:, None], boxes, (HEIGHT, WIDTH))[:, 0]
    rows = call(
        *(
            {
                "name": "pasted",
                "mask": mask.flatten().tolist(),
                "side": 28,
                "box": box.tolist(),
                "image": ABOUT["size"],
            }
            for mask, box in zip(masks, boxes, strict=True)
        )
    )
    for row, mask in zip(rows, wanted.numpy(), strict=True):
        found = np.zeros((HEIGHT, WIDTH), dtype=bool)
        part = np.array(row["on"], dtype=bool).reshape(row["height"], row["width"])
        found[row["top"] : row["top"] + row["height"], row["left"] : row["left"] + row["width"]] = part
        assert (found == (mask > 0.5))[np.abs(mask - 0.5) > 1e-5].all()


BOXES = output([[1, 2, 5, 8], [0, 0, 3, 3]])
SCORES, LABELS = output([0.9, 0.5]), output([2, 1], "int64")
MASKS = output(np.full((2, 28, 28), 0.9))


def test_objects_are_those_above_the_least_score() -> None:
    given = {"name": "objects", "about": ABOUT, "outputs": [BOXES, SCORES, LABELS]}
    both, one, drawn, none = call(
        {**given, "least": 0.5},
        {**given, "least": 0.6},
        {**given, "least": 0.5, "outputs": [BOXES, SCORES, LABELS, MASKS]},
        {**given, "least": 0.95},
    )
    assert [(row["name"], row["label"], row["box"]) for row in both] == [
        ("bee", 2, [1, 2, 5, 8]),
        ("ant", 1, [0, 0, 3, 3]),
    ]
    assert one == both[:1]
    assert both[0]["mask"] is None
    # From 2 to 8, grown by a fourteenth: rows 1 to 8.
    assert drawn[0]["mask"]["top"] == 1
    assert drawn[0]["mask"]["height"] == 8
    assert none == []


def test_outputs_that_are_not_a_detectors_are_rejected() -> None:
    given = {"name": "objects", "about": ABOUT, "least": 0.5}
    cases = {
        "it is not a detector": [
            [BOXES, SCORES],
            [SCORES, BOXES, LABELS],
            [BOXES, SCORES, output([2], "int64")],
            [BOXES, SCORES, output([2, 1])],
            [BOXES, SCORES, LABELS, output(np.zeros((2, 28, 27)))],
            [],
        ],
        "must give labels from 1 to its number of classes, but gives 3": [
            [BOXES, SCORES, output([3, 1], "int64")]
        ],
        "must give finite outputs, but does not for a.png": [
            [BOXES, output([0.9, np.nan]), LABELS],
            [BOXES, SCORES, LABELS, output(np.full((2, 28, 28), np.nan))],
        ],
    }
    for message, outputs in cases.items():
        for row in call(*({**given, "outputs": x} for x in outputs)):
            assert row["kind"] == "UserError", row
            assert message in row["message"]


def test_every_pixel_gets_its_likeliest_class() -> None:
    logits = np.random.default_rng(0).normal(size=(1, 2, HEIGHT, WIDTH)).astype(np.float32)
    logits[0, 0] += 1
    (row,) = call({"name": "segments", "about": ABOUT, "outputs": [output(logits)]})
    labels = logits[0].argmax(0)
    assert row["labels"] == labels.ravel().tolist()
    assert [share["name"] for share in row["shares"]] == ["ant", "bee"]
    assert row["shares"][1]["share"] == pytest.approx(labels.mean())


def test_outputs_that_are_not_a_segmenters_are_rejected() -> None:
    wrong = {
        "it is not a segmenter": [np.zeros((1, 2)), np.zeros((1, 2, WIDTH, HEIGHT))],
        "must name all 3 classes of its model, but has 2 names": [np.zeros((1, 3, HEIGHT, WIDTH))],
        "must give finite outputs": [np.full((1, 2, HEIGHT, WIDTH), np.nan)],
    }
    for message, logits in wrong.items():
        for row in call(*({"name": "segments", "about": ABOUT, "outputs": [output(x)]} for x in logits)):
            assert row["kind"] == "UserError", row
            assert message in row["message"]
