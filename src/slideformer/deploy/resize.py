# SPDX-License-Identifier: Apache-2.0
"""The resizing of an exported detector: nodes of ONNX in front of its graph, and behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto

# Input and first output of the graph that finds boxes in a resized image.
RESIZED_IMAGE, RESIZED_BOXES = "resized_image", "resized_boxes"
# The size is what torchvision's `GeneralizedRCNNTransform` finds, digit for digit, in float64, rounded down;
# of an image so thin that nothing would be left of its shorter side it is what our own `Transform` finds.
BEFORE = """
of_any_size (float[1, 3, {height}, {width}] image) => (float[1, 3, rows, columns] resized_image) {{
    resize_shape = Shape <start = 2> (image)
    resize_sides = Cast <to = 11> (resize_shape)
    resize_shorter = ReduceMin <keepdims = 1> (resize_sides)
    resize_longer = ReduceMax <keepdims = 1> (resize_sides)
    resize_short = Constant <value = double[1] {{{short}.0}}> ()
    resize_long = Constant <value = double[1] {{{long}.0}}> ()
    resize_by_short = Div (resize_short, resize_shorter)
    resize_by_long = Div (resize_long, resize_longer)
    resize_scale = Min (resize_by_short, resize_by_long)
    resize_usual = Mul (resize_sides, resize_scale)
    resize_product = Mul (resize_sides, resize_long)
    resize_by_longer = Div (resize_product, resize_longer)
    resize_most = Mul (resize_shorter, resize_long)
    resize_thin = Less (resize_most, resize_longer)
    resize_exact = Where (resize_thin, resize_by_longer, resize_usual)
    resize_floor = Floor (resize_exact)
    resize_new = Cast <to = 7> (resize_floor)
    resize_one = Constant <value = int64[1] {{1}}> ()
    resize_least = Max (resize_new, resize_one)
    resize_first = Constant <value = int64[2] {{1, 3}}> ()
    resize_sizes = Concat <axis = 0> (resize_first, resize_least)
    resized_image = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel">
        (image, , , resize_sizes)
}}
"""
AFTER = """
in_its_pixels (float[N, 4] resized_boxes) => (float[N, 4] boxes) {
    resize_before = Cast <to = 1> (resize_shape)
    resize_after = Cast <to = 1> (resize_least)
    resize_ratio = Div (resize_before, resize_after)
    resize_corners = Constant <value = int64[4] {1, 0, 1, 0}> ()
    resize_ratios = Gather (resize_ratio, resize_corners)
    boxes = Mul (resized_boxes, resize_ratios)
}
"""


def resized_first(
    program: ModelProto, sides: tuple[int, int], size: tuple[int | None, int | None]
) -> ModelProto:
    """Let a graph that finds boxes in a resized image take the image as it is, and give boxes in its pixels.

    Args:
        program: takes `RESIZED_IMAGE`, gives `RESIZED_BOXES` first; changed in place.
        sides: the shorter side of a resized image, and the most that the longer may have, in pixels.
        size: height and width of an image before; None for any.
    """
    import onnx

    height, width = (
        name if side is None else side for name, side in zip(("height", "width"), size, strict=True)
    )
    text = BEFORE.format(height=height, width=width, short=sides[0], long=sides[1])
    before, after = onnx.parser.parse_graph(text), onnx.parser.parse_graph(AFTER)
    graph = program.graph
    nodes = [*before.node, *graph.node, *after.node]
    graph.ClearField("node")
    graph.node.extend(nodes)
    graph.input[0].CopyFrom(before.input[0])
    graph.output[0].name = after.output[0].name
    onnx.checker.check_model(program)
    return program
