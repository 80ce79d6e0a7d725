# SPDX-License-Identifier: Apache-2.0
"""A program whose example is one image runs any number of images, whatever else is in the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.fx.experimental import _config

from slideformer import layers, slide_attention
from slideformer.layers import DeformableAttention, SlideAttention, WindowAttention
from tests.layers.every import INPUTS, LAYERS
from tests.models.families import traceable
from tests.tiers import fast


class Plain(nn.Module):
    """The operator alone between two projections."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, 2, -1)).unbind(3)
        return self.proj(slide_attention(query, key, value, kernel_size=5, border="mask").flatten(3))


class Residual(nn.Module):
    """Attention on a map whose channels come first; the sum lies in memory with its channels last."""

    def __init__(self, attention: nn.Module, dim: int) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(dim), attention

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        return (self.attention(self.norm(x)) + x).permute(0, 3, 1, 2)


class UNet(nn.Module):
    """Two scales, joined by a strided convolution, a transposed one and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 2, 2)
        self.fine, self.coarse = Residual(SlideAttention(16, 2), 16), Residual(SlideAttention(32, 2), 32)
        self.middle = Residual(Plain(32), 32)
        self.up, self.joined = nn.ConvTranspose2d(32, 16, 2, 2), Residual(SlideAttention(32, 2), 32)
        self.out = nn.Conv2d(32, 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        fine = self.fine(self.stem(image))
        coarse = self.up(self.middle(self.coarse(self.down(fine))))
        return self.out(self.joined(torch.cat([fine, coarse], 1)))


def mixture(attention: nn.Module) -> nn.Module:
    """Plain attention and another kind, each before a convolution."""
    parts = (Residual(Plain(16), 16), nn.Conv2d(16, 16, 3, 2, padding=1), Residual(attention, 16))
    return nn.Sequential(nn.Conv2d(3, 16, 3, 2, padding=1), *parts, nn.Conv2d(16, 4, 1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "unet": UNet,
    "deformable": lambda: mixture(DeformableAttention(16, 2, 1, stride=2)),
    "window": lambda: mixture(WindowAttention(16, 2, 4, shift=True)),
    "slide_dat": lambda: traceable("slide_dat_tiny"),
}


@pytest.mark.slow  # the layers alone are exported below, and layers as files in bench/test_patterns
@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_from_one_image_runs_any_batch_and_size(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, file = NETWORKS[name]().eval(), tmp_path / "model.onnx"
    shapes = ({0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO},)
    with torch.no_grad():
        example = (torch.randn(1, 3, 64, 64),)
        torch.onnx.export(model, example, file, dynamo=True, dynamic_shapes=shapes, verbose=False)
        session = onnxruntime.InferenceSession(file)
        (given,) = session.get_inputs()
        for batch, height, width in ((1, 64, 64), (2, 64, 64), (3, 80, 96)):
            image = torch.randn(batch, 3, height, width)
            (found,) = session.run(None, {given.name: image.numpy()})
            torch.testing.assert_close(torch.from_numpy(found), model(image), atol=1e-4, rtol=1e-4)


# Cheap layers, and the one that matters most.
QUICK = ("ConvStem", "Mlp", "PatchEmbed", "PatchMerging", "SlideAttention")


@pytest.mark.parametrize("name", fast(sorted(set(layers.__all__) - {"DeformedShift"}), *QUICK))
def test_no_layer_takes_a_batch_of_one_for_a_rule(name: str) -> None:
    axes, shape = ((0, 2, 3), (1, 3, 40, 36)) if name in INPUTS else ((0, 1, 2), (1, 12, 10, 16))
    # As the exporter of ONNX calls it: a size of 1 stays open.
    with _config.patch(backed_size_oblivious=True):
        program = torch.export.export(
            LAYERS[name]().eval(), (torch.randn(shape),), dynamic_shapes=(dict.fromkeys(axes, Dim.AUTO),)
        )
    (image,) = (node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs)
    batch = image.meta["val"].shape[0].node.expr
    assert program.range_constraints[batch].upper > 2
    (answer,) = program.graph.output_node().args[0]
    assert batch in answer.meta["val"].shape[0].node.expr.free_symbols
