# SPDX-License-Identifier: Apache-2.0
"""The page's windows are those of the operator, and metadata of layers that cannot be are rejected."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import torch

from slideformer.ops.window import BORDERS, Axis
from tests.web.test_modules import node

CALL = """
import { readFileSync } from "node:fs";
import { centresOf } from "./attention.js";
import { readLayers } from "./layers.js";
import { frameOf } from "./scene.js";
import { directionOf, placesOf, reachOf, windowOf } from "./windows.js";

const CALLS = { centresOf, directionOf, frameOf, placesOf, readLayers, reachOf, windowOf };
const call = ([name, ...given]) => {
  try {
    return CALLS[name](...given);
  } catch (error) {
    return { kind: error.constructor.name, message: error.message };
  }
};
console.log(JSON.stringify(JSON.parse(readFileSync(0)).map(call)));
"""
LAYER: dict[str, Any] = {
    "output": "attention_1",
    "stage": 1,
    "block": 2,
    "kernel_size": [3, 5],
    "dilation": [1, 2],
    "border": ["zeros", "clamp"],
    "stride": 4,
    "heads": 2,
    "shift": None,
}


def call(*cases: list[Any]) -> Any:
    """What functions of the page return, or the errors that they raise."""
    return json.loads(node(CALL, list(cases)))


def places(size: int, taps: int, dilation: int, border: Any) -> list[list[int]]:
    """The places of each tap at each position, by the operator."""
    return Axis(size, taps, dilation, border).sources(torch.device("cpu")).tolist()


def layer_on(map_size: tuple[int, int], **changes: Any) -> dict[str, Any]:
    """A layer of the page over a map."""
    (layer,) = call(["readLayers", [{**LAYER, **changes}]])[0]
    return {**layer, "rows": map_size[0], "columns": map_size[1]}


def test_windows_are_those_of_the_operator_at_every_border() -> None:
    axes = list(product((1, 4, 5, 9), (3, 5), (1, 2, 3), BORDERS))
    cases = [(*axis, position) for axis in axes for position in range(axis[0])]
    found = call(*(["placesOf", position, *axis] for *axis, position in cases))
    for (*axis, position), row in zip(cases, found, strict=True):
        assert row == places(*axis)[position], (axis, position)


def test_a_window_has_its_taps_row_by_row_and_knows_which_are_on_the_map() -> None:
    layer = layer_on((4, 9))
    (window,) = call(["windowOf", layer, {"row": 0, "column": 1}])
    rows, columns = places(4, 3, 1, "zeros")[0], places(9, 5, 2, "clamp")[1]
    wanted = list(product(rows, columns))
    assert [(tap["row"], tap["column"]) for tap in window] == wanted
    assert [tap["inside"] for tap in window] == [0 <= row < 4 and 0 <= column < 9 for row, column in wanted]


def test_the_words_for_a_tap_are_where_it_reads() -> None:
    layer = layer_on((9, 9), kernel_size=[3, 5], dilation=[1, 1], border=["zeros", "clamp"])
    places = [{"row": 4, "column": 4}, {"row": 0, "column": 0}, {"row": 8, "column": 7}]
    taps = list(product(places, (0, 7, 14)))
    assert call(*(["directionOf", layer, place, tap] for place, tap in taps)) == [
        *("1 up and 2 left", "itself", "1 down and 2 right"),
        # The window begins at the first column, and above the map.
        *("1 up", "2 right", "1 down and 4 right"),
        *("1 up and 3 left", "1 left", "1 down and 1 right"),
    ]


def test_a_frame_is_inside_its_box_and_seen_around_a_small_one() -> None:
    large, small = call(["frameOf", [10, 20, 40, 60], 8], ["frameOf", [10, 20, 2, 60], 8])
    assert large == [14, 24, 32, 52]
    assert small == [6, 24, 10, 52]


def seen(layers: list[dict[str, Any]], axis: int, position: int, side: int) -> list[tuple[int, int]]:
    """Brute force along an axis: pixels from the first to the last that the last layers depend on."""
    last = layers[-1]
    pixels = set(range(position * last["stride"], (position + 1) * last["stride"]))
    found = []
    for layer in reversed(layers):
        size, stride = (layer["rows"], layer["columns"])[axis], layer["stride"]
        table = places(size, layer["kernelSize"][axis], layer["dilation"][axis], layer["border"][axis])
        cells = {pixel // stride for pixel in pixels if pixel // stride < size}
        cells |= {place for cell in cells for place in table[cell] if 0 <= place < size}
        # Its own layers take whole positions, and all between the first and the last are shown.
        cells = set(range(min(cells), max(cells) + 1))
        pixels = {cell * stride + pixel for cell in cells for pixel in range(stride)}
        found.append((min(pixels), min(side, max(pixels) + 1)))
    return found


def test_what_a_position_sees_is_what_its_layers_depend_on() -> None:
    side = 61
    for border, dilation in product(BORDERS, (1, 3)):
        options = {"border": [border, border], "dilation": [dilation, dilation], "kernel_size": [3, 5]}
        layers = [layer_on((16, 16), stride=4, **options), layer_on((16, 16), stride=4, **options)]
        layers.append(layer_on((8, 8), stride=8, **options))
        for row, column in ((0, 0), (3, 4), (7, 7)):
            place, image = {"row": row, "column": column}, {"height": side, "width": side}
            (found,) = call(["reachOf", layers, place, image])
            assert [(x["top"], x["bottom"]) for x in found] == seen(layers, 0, row, side)
            assert [(x["left"], x["right"]) for x in found] == seen(layers, 1, column, side)


def test_the_centre_of_a_tap_that_samples_one_place_is_there() -> None:
    fixed = torch.eye(9)
    shift = fixed.roll(1, 0)  # each tap samples the one before it
    shift[4] = -(fixed[0] + fixed[2]) / 2
    shift[5] = 0
    options = {"kernel_size": [3, 3], "dilation": [2, 1], "shift": shift.tolist()}
    (found,) = call(["centresOf", layer_on((8, 8), **options)])
    wanted = {0: (2, 1), 1: (-2, -1), 4: (-2, 0), 5: (0, 1), 8: (2, 0)}
    assert {tap: (found[tap]["row"], found[tap]["column"]) for tap in wanted} == wanted


def test_layers_that_cannot_be_are_rejected_in_one_line() -> None:
    changes: list[dict[str, Any]] = [
        {"output": 3},
        {"stage": 0},
        {"kernel_size": [3]},
        {"dilation": [1, 0]},
        {"border": ["zeros", "torn"]},
        {"stride": -4},
        {"heads": 1.5},
        {"shift": [[1, 0], [0, 1]]},
        {"shift": [[0] * 15] * 14},
        {"shift": "none"},
    ]
    cases: list[Any] = [[{**LAYER, **change}] for change in changes]
    cases += [[None], ["layer"], {"layers": []}, [{key: x for key, x in LAYER.items() if key != "heads"}]]
    for row in call(*(["readLayers", case] for case in cases)):
        assert row.get("kind") == "UserError", row
        assert "\n" not in row["message"]
        assert len(row["message"]) < 300
