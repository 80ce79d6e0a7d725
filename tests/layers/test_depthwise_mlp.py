# SPDX-License-Identifier: Apache-2.0
"""The perceptron with a depthwise convolution."""

from __future__ import annotations

import pytest
import torch
from timm.models.pvt_v2 import MlpWithDepthwiseConv

from slideformer.layers import DepthwiseMlp


def test_output_is_timms() -> None:
    theirs, ours = MlpWithDepthwiseConv(6, 12).double(), DepthwiseMlp(6, 12).double()
    ours.load_state_dict({name.replace("dwconv", "depthwise"): x for name, x in theirs.state_dict().items()})
    x = torch.randn(2, 5, 7, 6, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x.flatten(1, 2), [5, 7]).unflatten(1, (5, 7)))


def test_a_residual_convolution_is_added_to_what_it_is_of() -> None:
    plain, residual, x = DepthwiseMlp(6, 12), DepthwiseMlp(6, 12, residual=True), torch.randn(2, 5, 7, 6)
    with torch.no_grad():
        # The same as one more in the middle of every kernel.
        residual.load_state_dict(plain.state_dict())
        plain.depthwise.weight[:, 0, 1, 1] += 1
    torch.testing.assert_close(residual(x), plain(x))


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="dim and hidden_dim must be at least 1, got 0 and 4"):
        DepthwiseMlp(0, 4)
