# SPDX-License-Identifier: Apache-2.0
"""What `torch.jit.trace` records runs without our operators and holds for other batches and sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from slideformer import layers, slide_attention
from tests.layers.every import INPUTS, LAYERS
from tests.models.families import FAMILIES, traceable
from tests.tiers import fast

# TorchScript is deprecated, and tells of every size that it keeps.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*legacy TorchScript-based ONNX:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Exporting aten..index operator:UserWarning"),
    pytest.mark.filterwarnings("ignore:Constant folding:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]

MAPS = ((1, 9, 10, 16), (3, 9, 10, 16), (2, 13, 22, 16), (1, 3, 2, 16))
IMAGES = ((1, 3, 40, 36), (3, 3, 37, 50))
WEIGHT, BIAS = torch.randn(2, 8, 9, 9, generator=torch.Generator().manual_seed(0))[0], torch.ones(8, 9)
CALLS: dict[str, dict[str, Any]] = {
    "zeros": {"border": "zeros"},
    "mask": {"border": "mask", "kernel_size": (3, 5), "dilation": (2, 1)},
    "clamp": {"border": "clamp", "kernel_size": 5, "logit_bias": torch.randn(2, 9, 9)},
    "dilated": {"border": "clamp", "dilation": 2, "key_bias": torch.randn(2, 9)},
    "deformed": {"shift_weight": WEIGHT, "shift_bias": BIAS, "key_bias": torch.randn(2, 9)},
    "shift_bias": {"shift_bias": BIAS, "logit_bias": torch.randn(2, 9)},
    "matmul": {"backend": "matmul"},
}


class Operator(nn.Module):
    """A call of the operator whose query, key and value differ."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        self.options = options

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(-1, (2, -1))
        return slide_attention(x, 2 * x, x + 1, **self.options).flatten(3)


def check(model: nn.Module, shapes: Sequence[tuple[int, ...]]) -> None:
    """Trace with the first shape; the program gives for all what the model does."""
    with torch.no_grad():
        program = torch.jit.trace(model, torch.randn(shapes[0]))
        for shape in shapes:
            x = torch.randn(shape)
            torch.testing.assert_close(program(x), model(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", CALLS)
def test_every_kind_of_call_can_be_traced(name: str) -> None:
    check(Operator(CALLS[name]), MAPS)


@pytest.mark.parametrize("name", sorted(set(layers.__all__) - {"DeformedShift"}))
def test_every_layer_can_be_traced(name: str) -> None:
    torch.manual_seed(0)
    check(LAYERS[name]().eval(), IMAGES if name in INPUTS else MAPS)


@pytest.mark.parametrize("name", fast(FAMILIES))
def test_every_family_can_be_traced(name: str) -> None:
    torch.manual_seed(0)
    check(traceable(name), ((1, 3, 64, 64), (2, 3, 64, 64), (2, 3, 96, 70)))


def test_a_large_map_is_not_cut_as_the_example_was() -> None:
    # In eager mode a perceptron cuts a large map into pieces, as many as the example would need.
    check(layers.Mlp(32, 512), ((1, 80, 80, 32), (2, 90, 70, 32), (1, 4, 4, 32)))


def test_a_traced_layer_can_be_trained() -> None:
    layer = layers.SlideAttention(16, 2).train()
    x = torch.randn(2, 6, 7, 16)
    program = torch.jit.trace(layer, x)
    gradients = []
    for module in (layer, program):
        gradients.append(torch.autograd.grad(module(x).square().sum(), list(layer.parameters())))
    for own, traced in zip(*gradients, strict=True):
        torch.testing.assert_close(own, traced, atol=1e-4, rtol=1e-4)


ONNX: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "SlideAttention": (LAYERS["SlideAttention"], (1, 9, 10, 16)),
    "NeighborhoodAttention": (LAYERS["NeighborhoodAttention"], (1, 9, 10, 16)),
    "CrossWindowAttention": (LAYERS["CrossWindowAttention"], (1, 9, 10, 16)),
    "slide_swin": (lambda: traceable("slide_swin_tiny"), (1, 3, 64, 64)),
}


@pytest.mark.parametrize("name", fast(ONNX))
def test_the_exporter_of_torchscript_writes_what_other_runtimes_know(name: str, tmp_path: Path) -> None:
    build, shape = ONNX[name]
    model, file = build().eval(), tmp_path / "model.onnx"
    with torch.no_grad():
        torch.onnx.export(
            model,
            (torch.randn(shape),),
            file,
            dynamo=False,
            input_names=["x"],
            dynamic_axes={"x": {0: "batch"}},
        )
    session = onnxruntime.InferenceSession(file)
    for batch in (1, 3):
        x = torch.randn(batch, *shape[1:])
        (found,) = session.run(None, {"x": x.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), model(x), atol=1e-4, rtol=1e-4)
