# SPDX-License-Identifier: Apache-2.0
"""Small ONNX files that carry what the exporter writes, of graphs whose results are known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASS_NAMES = ("red", "green", "blue")
FACTS: dict[str, object] = {
    "slideformer_format": "1",
    "slideformer": "0.1.0",
    "architecture": "small",
    "precision": "float32",
    "class_names": CLASS_NAMES,
    "batch": None,
    "height": None,
    "width": None,
}
PREPARED: dict[str, object] = {
    "task": "classify",
    "input_size": [3, 8, 8],
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.25, 0.3],
    "interpolation": "bicubic",
    "crop_pct": 0.875,
}


def add_facts(file: Path, facts: Mapping[str, object]) -> Path:
    """Write those facts that a file does not carry yet; what is no text as JSON."""
    model = onnx.load(file)
    present = {entry.key for entry in model.metadata_props}
    texts = {key: x if isinstance(x, str) else json.dumps(x) for key, x in facts.items()}
    helper.set_model_props(
        model,
        {
            **{entry.key: entry.value for entry in model.metadata_props},
            **{key: text for key, text in texts.items() if key not in present},
        },
    )
    onnx.save(model, file)
    return file


def classifier(file: Path, facts: Mapping[str, object] = PREPARED, *, batch: int | str = "batch") -> Path:
    """Logits are ten times the mean of each channel."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["means"]),
        helper.make_node("Mul", ["means", "ten"], ["logits"]),
    ]
    ten = numpy_helper.from_array(np.array(10, dtype=np.float32), "ten")
    shape = [batch, 3, "height", "width"]
    return write(file, nodes, shape, {"logits": [batch, 3]}, [ten], {**FACTS, **facts})


def segmenter(file: Path, facts: Mapping[str, object] | None = None) -> Path:
    """Logits of a pixel are its colours: its class is the brightest."""
    nodes = [helper.make_node("Identity", ["image"], ["logits"])]
    shape = ["batch", 3, "height", "width"]
    own = {} if facts is None else facts
    return write(file, nodes, shape, {"logits": shape}, [], {**FACTS, "task": "segment", **own})


def detector(file: Path, facts: Mapping[str, object] | None = None) -> Path:
    """Finds the same two objects in every image; only the first is likely."""
    constants = {
        "boxes": np.array([[1, 2, 5, 8], [0, 0, 3, 3]], dtype=np.float32),
        "labels": np.array([3, 1], dtype=np.int64),
        "all_scores": np.array([0.9, 0.2], dtype=np.float32),
        "nothing": np.array(0, dtype=np.float32),
    }
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["brightest"], keepdims=0),
        helper.make_node("Mul", ["brightest", "nothing"], ["added"]),
        helper.make_node("Add", ["all_scores", "added"], ["scores"]),
    ]
    outputs: dict[str, Sequence[int | str]] = {"boxes": [2, 4], "scores": [2], "labels": [2]}
    tensors = [numpy_helper.from_array(x, name) for name, x in constants.items()]
    own = {"batch": 1, "category_ids": [10, 20, 30]} if facts is None else facts
    return write(file, nodes, [1, 3, "height", "width"], outputs, tensors, {**FACTS, "task": "detect", **own})


def mask_detector(file: Path, facts: Mapping[str, object] | None = None) -> Path:
    """The detector with masks: the left half of the first object's box, all of the second's."""
    detector(file, facts)
    model = onnx.load(file)
    masks = np.zeros((2, 28, 28), dtype=np.float32)
    masks[0, :, :14] = masks[1] = 0.9
    model.graph.initializer.append(numpy_helper.from_array(masks, "all_masks"))
    model.graph.node.append(helper.make_node("Identity", ["all_masks"], ["masks"]))
    model.graph.output.append(helper.make_tensor_value_info("masks", TensorProto.FLOAT, [2, 28, 28]))
    for entry in model.metadata_props:
        if entry.key == "slideformer_format":
            entry.value = "2"
    onnx.save(model, file)
    return file


def write(
    file: Path,
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str],
    outputs: Mapping[str, Sequence[int | str]],
    tensors: Sequence[onnx.TensorProto],
    facts: Mapping[str, object],
) -> Path:
    """Write a graph from `image` to some outputs, with facts."""
    kinds = {"labels": TensorProto.INT64}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), sides)
            for name, sides in outputs.items()
        ],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, file)
    return add_facts(file, facts)
