# SPDX-License-Identifier: Apache-2.0
"""Kinds of calls that have passed all checks, which need not be checked again.

A model repeats a few kinds of calls; checking one takes longer than starting a kernel.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from slideformer.ops.exporting import tracing
from slideformer.ops.window import Window

# More than the kinds of calls of any model; images of ever other sizes start again.
MOST = 4096
KNOWN: dict[Hashable, Window] = {}


def kind_of(tensors: Sequence[Any], options: Any) -> Hashable | None:
    """All that the checks look at; None of what may be symbolic, or is not a tensor, and is always checked.

    Args:
        tensors: None where there is no tensor.
        options: of the window, and of the precision. Equal options may differ: 3, 3.0 and True.
    """
    if torch.compiler.is_compiling() or tracing():
        return None
    found: list[Hashable] = [repr(options)]
    for x in tensors:
        if x is None:
            found.append(None)
        elif type(x) is Tensor or type(x) is Parameter:
            found += (x.shape, x.dtype, x.device, x.layout)
        else:
            return None
    return tuple(found)


def remember(kind: Hashable | None, window: Window) -> None:
    """Keep the window of a kind of call that has passed all checks."""
    if kind is None:
        return
    if len(KNOWN) >= MOST:
        KNOWN.clear()
    KNOWN[kind] = window
