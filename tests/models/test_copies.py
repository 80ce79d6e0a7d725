# SPDX-License-Identifier: Apache-2.0
"""A forward pass moves no map that it need not move."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from slideformer.models import reparameterize
from slideformer.ops.cpu import library

COPYING = ("clone", "copy", "cat", "roll", "pad", "index", "gather")


class Copies(TorchDispatchMode):
    """Names and sizes of the operations that write numbers they have only read."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[tuple[str, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        if isinstance(result, Tensor) and any(word in name for word in COPYING):
            self.seen.append((name, result.numel()))
        return result


@torch.no_grad()
def copies(module: Any, x: Tensor) -> tuple[list[tuple[str, int]], Tensor]:
    with Copies() as seen:
        y = module(x)
    return seen.seen, y


@pytest.mark.skipif(library.missing() is not None, reason=str(library.missing()))
def test_only_merging_patches_copies_a_map_where_slide_swin_slides() -> None:
    model = reparameterize(timm.create_model("slide_swin_tiny").eval())
    seen, x = copies(model.patch_embed, torch.randn(1, 3, 64, 64))
    assert seen == []
    for stage in model.stages[:2]:
        before = x.numel()
        seen, x = copies(stage.downsample, x)
        # Neighbours come from two rows; nothing but a copy brings them side by side.
        assert seen in ([], [("clone", before)])
        seen, x = copies(stage.blocks, x)
        assert seen == []


def test_the_check_sees_a_copy() -> None:
    assert copies(lambda x: x.permute(0, 2, 1).contiguous(), torch.randn(2, 3, 4))[0] == [("clone", 24)]
