# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import torch.nn.functional as F

from slideformer.layers.mlp import Mlp


def test_it_is_two_linear_maps_around_a_gelu() -> None:
    mlp, x = Mlp(4, 12), torch.randn(2, 3, 5, 4)
    expected = F.linear(F.gelu(F.linear(x, mlp.fc1.weight, mlp.fc1.bias)), mlp.fc2.weight, mlp.fc2.bias)
    torch.testing.assert_close(mlp(x), expected)


def test_dropout_acts_in_training_only() -> None:
    mlp, x = Mlp(8, 32, drop=0.5), torch.ones(1, 4, 4, 8)
    assert not torch.equal(mlp(x), mlp(x))
    mlp.eval()
    assert torch.equal(mlp(x), mlp(x))


def test_a_size_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="dim and hidden_dim must be at least 1, got 4 and 0"):
        Mlp(4, 0)
