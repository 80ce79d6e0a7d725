# SPDX-License-Identifier: Apache-2.0
"""The deformed shift: a fixed shift plus a learned one, summed in weight space."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from slideformer.layers.map_checks import check_choice
from slideformer.ops import checks
from slideformer.ops.functional import Size

# As many as of 3 x 3 x 3: there are T * T weights a channel. A window of two axes may have more.
MOST_TAPS = 27
# How a learned shift begins: as the authors' does, or as no shift.
SHIFT_INITS = ("uniform", "zeros")


class MergedShift(nn.Module):
    """A shift whose fixed and learned kernels are merged, the result of `DeformedShift.merge`.

    Its parameters have other names than those of the learned part, so that weights of merged and of other
    models do not load into each other.

    Args:
        weight: ``(D, T, T)`` [channel, output tap, input tap].
        bias: ``(D, T)``.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.merged_weight = nn.Parameter(weight)
        self.merged_bias = nn.Parameter(bias)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Weight ``(D, T, T)`` and bias ``(D, T)`` of the shift."""
        return self.merged_weight, self.merged_bias

    def extra_repr(self) -> str:
        """Sizes, for ``print``."""
        return f"channels={len(self.merged_weight)}, taps={self.merged_weight.shape[1]}"


class DeformedShift(nn.Module):
    """The learned part of the shift and the fixed one (Pan et al., 2023, section 4.2).

    The paper runs two convolutions and adds their outputs; both are linear, so adding their kernels is
    the same function at half the price, in training too. Neither is constrained or normalised.

    Args:
        channels: channels D of a head; all heads, keys and values share the shift.
        kernel_size: odd side K of the window of two axes, or a tuple with an entry for each axis; T taps.
        shift_init: how it begins: ``"uniform"``, as PyTorch begins a convolution with a fan-in of T, and as
            the authors do; or ``"zeros"``, so that the sum begins as the fixed shift.

    Raises:
        ValueError: ``kernel_size`` is even, or has more than 27 taps along one or three axes; or
            ``shift_init`` is neither.
    """

    def __init__(self, channels: int, kernel_size: Size, shift_init: str = "uniform") -> None:
        super().__init__()
        check_choice("shift_init", shift_init, SHIFT_INITS)
        sides = checks.window(kernel_size).kernel_size
        taps = math.prod(sides)
        if taps > MOST_TAPS and len(sides) != 2:
            raise ValueError(
                f"a deformed shift of one or three axes must have at most {MOST_TAPS} taps, got {taps} "
                f"with kernel_size={sides}; use a smaller one, or deform=False"
            )
        self.weight = nn.Parameter(torch.empty(channels, taps, taps))
        self.bias = nn.Parameter(torch.empty(channels, taps))
        # Output tap t of the fixed shift is input tap t.
        self.register_buffer("fixed_weight", torch.empty(taps, taps), persistent=False)
        self.fixed_weight: Tensor
        self.shift_init = shift_init
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the learned part."""
        bound = self.bias.shape[1] ** -0.5 if self.shift_init == "uniform" else 0.0
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)
        self.init_non_persistent_buffers()

    def init_non_persistent_buffers(self) -> None:
        """Fill the buffers that are not in the state dict: timm's hook for models from the meta device."""
        self.fixed_weight.zero_().fill_diagonal_(1)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Weight ``(D, T, T)`` and bias ``(D, T)`` of the sum of both shifts."""
        return self.fixed_weight + self.weight, self.bias

    @torch.no_grad()
    def merge(self) -> MergedShift:
        """The same shift with one stored kernel."""
        weight, bias = self()
        return MergedShift(weight.clone(), bias.clone())

    def extra_repr(self) -> str:
        """Sizes, for ``print``."""
        return f"channels={len(self.weight)}, taps={self.weight.shape[1]}"
