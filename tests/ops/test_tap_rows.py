# SPDX-License-Identifier: Apache-2.0
"""The form for export of plain local attention: the reference's numbers, few nodes, no rank above 5."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from slideformer.ops import slide_attention, tap_rows
from slideformer.ops.call import MAPS, PARAMETERS
from slideformer.ops.functional import checked

from .cases import CASES, Case, expected

PLAIN = [case for case in CASES if not {"shift_weight", "shift_bias"} & set(case.optional)]


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_it_is_the_reference(case: Case) -> None:
    tensors = case.tensors(torch.float64)
    maps, parameters = ([tensors.get(name) for name in names] for names in (MAPS, PARAMETERS))
    options = tuple(case.window.values())
    call = checked(*maps, options, parameters, key_mask=case.mask())
    torch.testing.assert_close(tap_rows.attend(call), expected(case)["output"], rtol=1e-10, atol=1e-10)


class Wide(nn.Module):
    """Neighbourhoods of 49 taps."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        return slide_attention(query, key, value, kernel_size=7, border="clamp", logit_bias=bias)


def test_a_wide_window_makes_a_short_graph_for_every_size() -> None:
    size = {0: Dim("batch"), 1: Dim("height", min=2), 2: Dim("width", min=2)}
    bias = torch.randn(2, 13, 13)
    program = torch.export.export(
        Wide(), (*torch.randn(3, 2, 9, 12, 2, 4), bias), dynamic_shapes=(size, size, size, None)
    )
    nodes = list(program.graph.nodes)
    assert len(nodes) < 350
    values = [node.meta.get("val") for node in nodes]
    assert max(value.ndim for value in values if isinstance(value, torch.Tensor)) <= 5
    for height, width in [(2, 2), (3, 20), (9, 12)]:
        tensors = (*torch.randn(3, 3, height, width, 2, 4), bias)
        torch.testing.assert_close(program.module()(*tensors), Wide()(*tensors), atol=1e-5, rtol=1e-5)
