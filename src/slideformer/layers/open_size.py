# SPDX-License-Identifier: Apache-2.0
"""A test whether an exported program has to work for more than one size of a map."""

from __future__ import annotations

import torch

from slideformer.ops.exporting import exporting


def open_size(*sizes: int) -> bool:
    """Whether one of the sizes stays open: then the example's size must not decide what the program does."""
    if not exporting():
        return False
    # To a strict export every size is a number while it looks at the code.
    return torch.compiler.is_dynamo_compiling() or not all(isinstance(size, int) for size in sizes)
