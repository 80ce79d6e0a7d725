# SPDX-License-Identifier: Apache-2.0
"""A model that is built on the meta device and loaded afterwards is the model that is built as usual."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

import slideformer
from slideformer import layers
from slideformer.dense import detector as detectors
from slideformer.dense import segmenter as segmenters
from slideformer.deploy.detector import DetectorGraph
from tests.dense import small_detectors
from tests.layers.every import INPUTS, LAYERS
from tests.models.families import FAMILIES, small
from tests.models.meta import HOOKS, loaded_from_meta, same
from tests.tiers import fast


def segmenter(head: str) -> nn.Module:
    narrow = {"head_channels": 8} if head == "semantic_fpn" else {"auxiliary_channels": 8}
    return segmenters.create_segmenter(head, "slide_swin_nano", 5, channels=16, **narrow).eval()


def detections(model: nn.Module) -> object:
    return model(small_detectors.pictures())


DENSE: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], object]]] = {
    **{
        head: (partial(small_detectors.small, head, score_threshold=0.01), detections)
        for head in detectors.HEADS
    },
    **{
        head: (partial(segmenter, head), lambda model: model(torch.full((1, 3, 40, 56), 0.3)))
        for head in segmenters.HEADS
    },
}


def check(build: Callable[[], nn.Module], ask: Callable[[nn.Module], object], hook: str) -> None:
    """The model answers the same, and all that is not in the state dict has the same values."""
    torch.manual_seed(0)
    usual = build().eval()
    model = loaded_from_meta(build, usual, hook)
    buffers = dict(model.named_buffers())
    for name, buffer in usual.named_buffers():
        assert torch.equal(buffers[name], buffer), name
    with torch.no_grad():
        assert same(ask(usual), ask(model))


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("name", layers.__all__)
def test_every_layer_can_be_built_on_the_meta_device(name: str, hook: str) -> None:
    given = INPUTS.get(name, (torch.randn(2, 9, 10, 16),))
    check(LAYERS[name], lambda layer: layer(*given), hook)


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("name", fast(FAMILIES))
def test_every_family_can_be_built_on_the_meta_device(name: str, hook: str) -> None:
    image = torch.randn(2, 3, 64, 72)
    check(partial(small, name), lambda model: model(image), hook)


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("stages", [(), (0, 1)], ids=["host", "slides"])
def test_half_precision_keeps_the_values_of_buffers(stages: tuple[int, ...], hook: str) -> None:
    image = torch.randn(2, 3, 64, 72, dtype=torch.bfloat16)
    build = partial(small, "slide_swin_tiny", slide_stages=stages, dtype=torch.bfloat16)
    check(build, lambda model: model(image), hook)


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("name", fast(DENSE))
def test_every_dense_model_can_be_built_on_the_meta_device(name: str, hook: str) -> None:
    check(*DENSE[name], hook)


@pytest.mark.parametrize("head", ["retinanet", "mask_rcnn"])
def test_the_graph_of_a_detector_can_be_built_on_the_meta_device(head: str) -> None:
    image = torch.rand(1, 3, 64, 80)
    check(lambda: DetectorGraph(small_detectors.small(head)), lambda graph: graph(image), "timm")


def test_buffers_are_filled_on_their_own_device() -> None:
    # A loader may still hold the device open while it fills a module that has memory already.
    for name in ("DeformedShift", "WindowAttention"):
        layer = LAYERS[name]()
        (before,) = (buffer.clone() for buffer in layer.buffers())
        with torch.device("meta"):
            layer.init_non_persistent_buffers()
        (after,) = layer.buffers()
        assert torch.equal(before, after)


def test_every_module_with_a_buffer_outside_the_state_dict_says_how_to_fill_it() -> None:
    silent = []
    for path in sorted(Path(slideformer.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ClassDef) or "persistent=False" not in ast.unparse(node):
                continue
            methods = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
            if "init_non_persistent_buffers" not in methods:
                silent.append(f"{path.name}: {node.name}")
    assert silent == []
