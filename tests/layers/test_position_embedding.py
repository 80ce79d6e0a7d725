# SPDX-License-Identifier: Apache-2.0
"""Learned positions, of their own size and of others."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from slideformer.layers import PositionEmbedding


def test_positions_of_their_own_size_are_added_as_they_are() -> None:
    layer, x = PositionEmbedding(6, (3, 5)), torch.randn(2, 3, 5, 6)
    assert torch.equal(layer(x), x + layer.weight)


def test_positions_of_another_size_are_interpolated() -> None:
    layer, x = PositionEmbedding(6, (3, 5)), torch.zeros(1, 4, 9, 6)
    expected = F.interpolate(layer.weight.permute(0, 3, 1, 2), size=(4, 9), mode="bilinear")
    torch.testing.assert_close(layer(x), expected.permute(0, 2, 3, 1))


def test_a_transposed_size_is_another_size() -> None:
    assert PositionEmbedding(6, (3, 5))(torch.zeros(1, 5, 3, 6)).shape == (1, 5, 3, 6)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"dim and size must be at least 1, got 6 and \(0, 5\)"):
        PositionEmbedding(6, (0, 5))
    with pytest.raises(ValueError, match=r"a map \(B, H, W, C\) with C = 6, got \(1, 3, 5, 4\)"):
        PositionEmbedding(6, (3, 5))(torch.zeros(1, 3, 5, 4))
