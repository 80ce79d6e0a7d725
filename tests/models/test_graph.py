# SPDX-License-Identifier: Apache-2.0
"""Whole graphs of every family: torch.compile without a break, torch.export for every size."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.export import Dim

import slideformer.models as models
from tests.models.families import FAMILIES, SMALLEST_EXPORTED, of_one_size
from tests.tiers import fast


@pytest.fixture(autouse=True)
def _forget_compiled_models() -> Iterator[None]:
    """All families share one ``forward``, of which torch keeps no more than eight compiled versions."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("name", fast(FAMILIES, "slide_nat_mini"))
def test_the_model_compiles_without_a_graph_break(name: str) -> None:
    model = of_one_size(name)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for size in [(64, 64), (97, 130)]:
        image = torch.randn(2, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(compiled(image), model(image), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", fast(FAMILIES, "slide_nat_mini"))
def test_the_model_trains_compiled_without_a_graph_break(name: str) -> None:
    model, image = of_one_size(name, drop_path_rate=0.0).train(), torch.randn(2, 3, 33, 40)
    model(image).sum().backward()
    expected = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    torch.compile(model, fullgraph=True, backend="eager")(image).sum().backward()
    for parameter, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[parameter], atol=1e-4, rtol=1e-4, msg=parameter)


@pytest.mark.parametrize("name", fast(FAMILIES, "slide_pvt_v2_b1"))
def test_one_exported_program_holds_for_every_batch_and_size(name: str) -> None:
    model, least = of_one_size(name), SMALLEST_EXPORTED.get(name, 33)
    shapes = ({0: Dim("batch"), 2: Dim("height", min=least), 3: Dim("width", min=least)},)
    merged = models.reparameterize(model)
    program = torch.export.export(merged, (torch.randn(2, 3, 64, 96),), dynamic_shapes=shapes)
    values = [node.meta.get("val") for node in program.graph.nodes]
    # Core ML takes no tensor of rank 6.
    assert max(value.ndim for value in values if isinstance(value, torch.Tensor)) <= 5
    for batch, height, width in [(1, least, least), (3, 225, 64), (2, 97, 130)]:
        image = torch.randn(batch, 3, height, width)
        torch.testing.assert_close(program.module()(image), model(image), atol=1e-5, rtol=1e-5)
