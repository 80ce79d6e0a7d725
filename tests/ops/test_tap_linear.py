# SPDX-License-Identifier: Apache-2.0
"""Deformed local attention to be exported: the reference's numbers, linear layers, no rank above 5."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from slideformer.ops import slide_attention

from .cases import SMALL, TOLERANCE, Case, expected

DEFORMED = [case for case in SMALL if "shift_weight" in case.optional]


class Attention(nn.Module):
    """A case's window and parameters; called with query, key and value."""

    def __init__(self, window: dict[str, Any], parameters: dict[str, Tensor]) -> None:
        super().__init__()
        self.window = window
        for name, x in parameters.items():
            self.register_buffer(name, x.detach())
        self.names = tuple(parameters)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        parameters = {name: getattr(self, name) for name in self.names}
        return slide_attention(query, key, value, **parameters, **self.window, backend="matmul")


@pytest.mark.parametrize("case", DEFORMED, ids=str)
def test_the_exported_program_is_the_reference(case: Case) -> None:
    named = {name: x.detach() for name, x in case.tensors(torch.float64).items()}
    maps = tuple(named.pop(name) for name in ("query", "key", "value"))
    program = torch.export.export(Attention(case.window, named), maps)
    values = [node.meta.get("val") for node in program.graph.nodes]
    assert max(value.ndim for value in values if isinstance(value, Tensor)) <= 5
    targets = [str(node.target) for node in program.graph.nodes]
    # A product a tap for the keys and one for the values.
    assert sum(target == "aten.linear.default" for target in targets) >= 18
    wanted, found = expected(case)["output"], program.module()(*maps)
    error = float((found - wanted).abs().max() / wanted.abs().max())
    assert error <= TOLERANCE[torch.float64]


def test_there_are_cases_with_and_without_each_parameter() -> None:
    optional = {frozenset(case.optional) for case in DEFORMED}
    for name in ("shift_bias", "key_bias", "logit_bias"):
        assert {name in names for names in optional} == {True, False}
