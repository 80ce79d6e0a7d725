# SPDX-License-Identifier: Apache-2.0
"""Attention by products is PyTorch's own, in eager code and in an exported program."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slideformer.layers.dot_product import dot_product_attention


class Attention(nn.Module):
    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        return dot_product_attention(query, key, value, mask=mask)


def masks() -> dict[str, Tensor | None]:
    """For 5 queries and 7 keys of 2 images and 3 heads; every query sees a key."""
    generator = torch.Generator().manual_seed(1)
    seen = torch.rand(2, 1, 5, 7, generator=generator) < 0.5
    seen[..., 2] = True
    return {
        "none": None,
        "float": torch.randn(2, 3, 5, 7, generator=generator, dtype=torch.float64),
        "float of one row": torch.randn(1, 1, 1, 7, generator=generator, dtype=torch.float64),
        "infinite": torch.zeros(2, 1, 5, 7, dtype=torch.float64).masked_fill(~seen, -torch.inf),
        "bool": seen,
        "bool of one row": seen[:, :, :1],
    }


@pytest.mark.parametrize("mask", masks().values(), ids=masks())
@pytest.mark.parametrize("exported", [False, True], ids=["eager", "exported"])
def test_it_is_scaled_dot_product_attention(mask: Tensor | None, exported: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(2, 3, *shape, generator=generator, dtype=torch.float64)
        for shape in ((5, 8), (7, 8), (7, 4))
    )
    module = Attention()
    if exported:
        program = torch.export.export(module, (query, key, value, mask))
        targets = {str(node.target) for node in program.graph.nodes}
        assert not [target for target in targets if "scaled_dot_product" in target]
        module = program.module()
    wanted = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(module(query, key, value, mask), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch", [2, 0])
def test_a_learned_mask_has_the_gradient_of_scaled_dot_product_attention(batch: int) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((batch, 3, 5, 8), (batch, 3, 7, 8), (batch, 3, 7, 4), (1, 3, 5, 7))
    ]
    query, key, value, mask = inputs
    output = dot_product_attention(query, key, value, mask=mask)
    found = torch.autograd.grad(output.square().sum(), inputs)
    theirs = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    wanted = torch.autograd.grad(theirs.square().sum(), inputs, allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("learned", [False, True], ids=["no mask", "learned mask"])
def test_dropout_leaves_out_weights_in_eager_code(learned: bool) -> None:
    query, key = torch.zeros(2, 1, 4, 8)
    value = torch.ones(1, 4, 8)
    torch.manual_seed(0)
    mask = torch.zeros(4, 4, requires_grad=True) if learned else None
    dropped = dot_product_attention(query[None], key[None], value[None], mask=mask, dropout=0.5)
    # Four equal weights, each zero or doubled.
    assert set(dropped.unique().tolist()) <= {0.0, 0.5, 1.0, 1.5, 2.0}
    assert len(dropped.unique()) > 1
