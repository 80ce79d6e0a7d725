# SPDX-License-Identifier: Apache-2.0
"""Whole graphs: torch.compile without a break, torch.export for every size."""

from __future__ import annotations

import timm
import torch
from torch.export import Dim

import slideformer.models as models

# Structure of the tiny model with fewer blocks and channels, so that tracing is quick.
SLIM = {"embed_dim": 16, "depths": (1, 1, 2, 1), "num_heads": (2, 2, 4, 4), "num_classes": 5}


def test_the_model_compiles_without_a_graph_break() -> None:
    model = timm.create_model("slide_swin_tiny", **SLIM).eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for size in [(64, 64), (97, 130)]:
        image = torch.randn(2, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(compiled(image), model(image), atol=1e-5, rtol=1e-5)


def test_the_model_trains_compiled_without_a_graph_break() -> None:
    shape = {"embed_dim": 8, "depths": (1, 2), "num_heads": (2, 2), "slide_stages": (0,), "window_size": 4}
    model = timm.create_model("slide_swin_nano", **shape, num_classes=5, drop_path_rate=0.0)
    image = torch.randn(2, 3, 20, 20)
    model(image).sum().backward()
    expected = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    torch.compile(model, fullgraph=True, backend="eager")(image).sum().backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], atol=1e-4, rtol=1e-4, msg=name)


def test_one_exported_program_holds_for_every_batch_and_size() -> None:
    model = timm.create_model("slide_swin_tiny", **SLIM).eval()
    shapes = ({0: Dim("batch"), 2: Dim("height", min=33), 3: Dim("width", min=33)},)
    merged = models.reparameterize(model)
    program = torch.export.export(merged, (torch.randn(2, 3, 64, 96),), dynamic_shapes=shapes)
    values = [node.meta.get("val") for node in program.run_decompositions({}).graph.nodes]
    # Core ML takes no tensor of rank 6.
    assert max(value.ndim for value in values if isinstance(value, torch.Tensor)) <= 5
    for batch, height, width in [(1, 33, 33), (3, 225, 64), (2, 97, 130)]:
        image = torch.randn(batch, 3, height, width)
        torch.testing.assert_close(program.module()(image), model(image), atol=1e-5, rtol=1e-5)
