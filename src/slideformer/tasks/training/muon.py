# SPDX-License-Identifier: Apache-2.0
"""Muon on a CPU: timm's, with products in float32 in place of bfloat16, which most CPUs can only emulate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from timm.optim.muon import Muon
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode


class InFloat32(TorchFunctionMode):
    """Makes float32 of what asks for bfloat16."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of PyTorch, with another dtype where it is given bfloat16."""
        kwargs = kwargs or {}
        if kwargs.get("dtype") is torch.bfloat16:
            kwargs = {**kwargs, "dtype": torch.float32}
        return func(*args, **kwargs)


class Float32Muon(Muon):
    """Timm's Muon, which orthogonalises updates in float32: on most CPUs in less time, and more exactly."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters.

        Args:
            closure: computes loss and gradients, in its own precision.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with InFloat32():
            cast("Any", super()).step()
        return loss


def in_float32(optimiser: Optimizer) -> Optimizer:
    """The same optimiser, computing in float32 if it is Muon; any other one itself."""
    if type(optimiser) is not Muon:
        return optimiser
    return cast("Optimizer", Float32Muon(optimiser.param_groups, **optimiser.defaults))
