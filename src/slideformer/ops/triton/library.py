# SPDX-License-Identifier: Apache-2.0
"""Operators of torch, defined plainly: `torch.library.custom_op` takes tens of microseconds more a call.

Even so, finding the function takes PyTorch longer than starting a kernel: where nobody watches, `call` does
not ask it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

NAMESPACE = "slideformer"
# Arguments that no mode of their own watches.
PLAIN = frozenset((Tensor, Parameter, type(None), list, float))
LIBRARY = torch.library.Library(NAMESPACE, "FRAGMENT")
FUNCTIONS: dict[Any, Callable[..., Any]] = {}


def operator(name: str, schema: str, fake: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Make a function an operator of torch.

    Args:
        name: its name in our namespace.
        schema: its arguments and results.
        fake: allocates the results, for compilers.
    """

    def define(function: Callable[..., Any]) -> Any:
        LIBRARY.define(f"{name}{schema}", tags=torch.Tag.pt2_compliant_tag)
        LIBRARY.impl(name, function, "CompositeExplicitAutograd")
        torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=LIBRARY)
        found = getattr(getattr(torch.ops, NAMESPACE), name).default
        FUNCTIONS[found] = function
        return found

    return define


def differentiable(found: Any, backward: Callable[..., Any], keep: Callable[..., None] | None = None) -> None:
    """Register the derivative of such an operator, and what it keeps for it."""
    torch.library.register_autograd(found.name(), backward, setup_context=keep, lib=LIBRARY)


def call(found: Any, *arguments: Any) -> Any:
    """Call such an operator where no derivative is recorded."""
    if torch.compiler.is_compiling():
        return found(*arguments)
    if watched(arguments):
        # Past PyTorch's check whether a derivative must be recorded.
        with torch._C._AutoDispatchBelowAutograd():
            return found(*arguments)
    return FUNCTIONS[found](*arguments)


def watched(arguments: Sequence[Any]) -> bool:
    """Whether someone must see it: a mode such as a counter, a profiler, a tensor of another kind."""
    return (
        torch._C._len_torch_dispatch_stack() > 0
        or torch.autograd.profiler._is_profiler_enabled
        or not PLAIN.issuperset(map(type, arguments))
    )
