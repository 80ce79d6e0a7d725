# SPDX-License-Identifier: Apache-2.0
"""A size stays open only in a program that is exported for more than one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slideformer.layers.open_size import open_size


class Asks(nn.Module):
    """Adds 1 where a side of the map stays open, else 2."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (1 if open_size(*x.shape[1:3]) else 2)


def test_no_size_is_open_where_nothing_is_exported() -> None:
    assert not open_size(3, 4)


def test_a_size_that_the_program_keeps_is_not_open() -> None:
    x = torch.zeros(2, 5, 6)
    assert torch.export.export(Asks(), (x,)).module()(x).unique().tolist() == [2.0]


def test_one_open_side_of_two_is_enough() -> None:
    x = torch.zeros(2, 5, 6)
    for axis in (1, 2):
        shapes = ({axis: torch.export.Dim("side", min=2)},)
        program = torch.export.export(Asks(), (x,), dynamic_shapes=shapes).module()
        assert program(x).unique().tolist() == [1.0]


def test_an_open_batch_does_not_open_the_map() -> None:
    x = torch.zeros(2, 5, 6)
    shapes = ({0: torch.export.Dim("batch")},)
    assert torch.export.export(Asks(), (x,), dynamic_shapes=shapes).module()(x).unique().tolist() == [2.0]
