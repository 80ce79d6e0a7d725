# SPDX-License-Identifier: Apache-2.0
"""Linear maps of feature maps, in the form that a CPU runs fastest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import flop_registry, register_flop_formula

from slideformer.ops.derivatives import in_transform, is_final
from slideformer.ops.exporting import tracing

# The C library takes larger blocks from the system each time, and each page costs a fault.
PIECE_BYTES = 2**23
# A product of oneDNN with bias and activation, which PyTorch's compiler uses; some builds have none.
HAS_ONE_PASS = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Linear(nn.Linear):
    """``nn.Linear``; on a CPU, where no gradient is wanted, the product adds the bias as it goes.

    The same product, but PyTorch's linear layer first fills its result with the bias and reads it again.

    Shape: ``(..., C) -> (..., C')``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map every position: ``(..., C) -> (..., C')``."""
        return one_pass(x, self, "none") if takes_one_pass(x, self) else super().forward(x)


def gelu_of_linear(x: Tensor, layer: nn.Module) -> Tensor:
    """The GELU of a linear map, in the same pass where that can be."""
    # Another layer in its place, or one that is watched, is called as it is.
    watched = layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer)
    if type(layer) is Linear and not watched and takes_one_pass(x, layer):
        return one_pass(x, layer, "gelu")
    return F.gelu(layer(x))


def takes_one_pass(x: Tensor, layer: nn.Linear) -> bool:
    """Whether the product with bias and activation can take the place of PyTorch's own."""
    weight, bias = layer.weight, layer.bias
    plain = type(x) is Tensor and type(weight) is nn.Parameter and x.dtype == weight.dtype == torch.float32
    return (
        HAS_ONE_PASS
        and plain
        and runs_eagerly_on_cpu(x)
        and weight.device == x.device
        and not torch.is_autocast_enabled("cpu")
        and not in_transform()
        and is_final((x, weight, bias))
    )


def one_pass(x: Tensor, layer: nn.Linear, activation: str) -> Tensor:
    """A linear map with its bias and an activation, ``"none"`` or ``"gelu"``: ``(..., C) -> (..., C')``."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, activation, [], "none")
    return found


if HAS_ONE_PASS and torch.ops.mkldnn._linear_pointwise not in flop_registry:

    @register_flop_formula(torch.ops.mkldnn._linear_pointwise)
    def _(x: Sequence[int], weight: Sequence[int], *rest: Any, **outputs: Any) -> int:
        return 2 * math.prod(x) * weight[0]


def in_pieces(function: Callable[[Tensor], Tensor], x: Tensor, channels: int) -> Tensor:
    """Compute ``function(x)``, part of the first axis at a time where nothing is kept for gradients.

    Args:
        function: treats every entry of the first axis independently.
        x: ``(N, ..., C)``.
        channels: of the widest map that ``function`` lays out.
    """
    if torch.is_grad_enabled() or not runs_eagerly_on_cpu(x):
        return function(x)
    entry = x[0, ..., 0].numel() * channels * x.element_size() if len(x) else 1
    count = max(1, PIECE_BYTES // entry)
    if len(x) <= count:
        return function(x)
    return torch.cat([function(piece) for piece in x.split(count)])


def runs_eagerly_on_cpu(x: Tensor) -> bool:
    """Whether a map is on a CPU in eager mode, and no program is recorded."""
    # To torch.fx, which takes no tensor, a program is recorded; other kinds of tensors may have no values.
    recorded = type(x) is not Tensor or torch.compiler.is_compiling() or tracing()
    return not recorded and x.device.type == "cpu"
