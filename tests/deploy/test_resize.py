# SPDX-License-Identifier: Apache-2.0
"""The resizing in front of an exported detector is that of the detector, for every size."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

from slideformer.dense.detector import Transform
from slideformer.deploy.resize import resized_first

BOXES = np.array([[0, 0, 8, 4], [1, 2, 3, 4]], dtype=np.float32)


def session(short: int, long: int, size: tuple[int | None, int | None] = (None, None)) -> Any:
    """A graph that gives the resized image and boxes of its own, which are in the resized image's pixels."""
    image = ["B", 3, "rows", "columns"]
    graph = helper.make_graph(
        [
            helper.make_node("Identity", ["constant"], ["resized_boxes"]),
            helper.make_node("Identity", ["resized_image"], ["seen"]),
        ],
        "core",
        [helper.make_tensor_value_info("resized_image", TensorProto.FLOAT, image)],
        [
            helper.make_tensor_value_info("resized_boxes", TensorProto.FLOAT, [2, 4]),
            helper.make_tensor_value_info("seen", TensorProto.FLOAT, image),
        ],
        [numpy_helper.from_array(BOXES, "constant")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnxruntime.InferenceSession(resized_first(model, (short, long), size).SerializeToString())


@pytest.mark.parametrize(("short", "long"), [(80, 133), (49, 98), (64, 64)])
def test_size_pixels_and_boxes_are_those_of_the_detector(short: int, long: int) -> None:
    run, transform = session(short, long), Transform(short, long, [0.0] * 3, [1.0] * 3).eval()
    generator = torch.Generator().manual_seed(0)
    # Of 49, 98, 103, 107 and others a scale times the side is, in float64, less than the whole number.
    sides = [1, 7, 48, 49, 64, 80, 98, 103, 107, 161, 187, 197]
    for height in sides:
        for width in sides:
            image = torch.rand(1, 3, height, width, generator=generator)
            boxes, seen = run.run(None, {"image": image.numpy()})
            size = transform([image[0]])[0].image_sizes[0]
            assert seen.shape[2:] == size, (height, width)
            wanted = F.interpolate(image, size, mode="bilinear", align_corners=False)
            np.testing.assert_allclose(seen, wanted.numpy(), atol=1e-4)
            ratios = np.array([width / size[1], height / size[0]] * 2)
            np.testing.assert_allclose(boxes, BOXES * ratios, rtol=1e-6)


def test_an_image_of_the_detectors_size_is_not_changed() -> None:
    image = torch.rand(1, 3, 80, 100)
    _, seen = session(80, 133).run(None, {"image": image.numpy()})
    assert np.array_equal(seen, image.numpy())


def test_a_graph_of_one_size_says_so() -> None:
    (given,) = session(80, 133, (30, 40)).get_inputs()
    assert given.name == "image"
    assert given.shape == [1, 3, 30, 40]
