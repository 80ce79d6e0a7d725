# SPDX-License-Identifier: Apache-2.0
"""Merging works on any module, and on nothing that is not meant."""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn

from slideformer.layers import SlideAttention
from slideformer.models import is_merged, reparameterize


class Sampler(nn.Module):
    """Attention in a class whose method of the same name draws from a distribution."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = SlideAttention(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x)

    def reparameterize(self, mean: Tensor, std: Tensor) -> Tensor:
        return mean + std * torch.randn_like(std)


def test_a_layer_alone_is_merged() -> None:
    layer, x = SlideAttention(16, 2).eval(), torch.randn(1, 5, 6, 16)
    merged = reparameterize(layer)
    assert is_merged(merged)
    assert not is_merged(layer)
    torch.testing.assert_close(merged(x), layer(x))


def test_a_method_of_the_same_name_is_left_alone() -> None:
    for module in (Sampler().eval(), nn.Sequential(Sampler()).eval()):
        x = torch.randn(1, 5, 6, 16)
        merged = reparameterize(module)
        assert is_merged(merged)
        torch.testing.assert_close(merged(x), module(x))


def test_the_parts_of_timm_are_merged_too() -> None:
    # In float64: this untrained model gives numbers of any size.
    backbone = timm.create_model("mobileone_s0").double().eval()
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    merged = reparameterize(nn.Sequential(backbone).eval())
    assert len(list(merged.parameters())) < len(list(backbone.parameters()))
    torch.testing.assert_close(merged(image), backbone(image))
