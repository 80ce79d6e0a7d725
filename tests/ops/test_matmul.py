# SPDX-License-Identifier: Apache-2.0
"""What only the matrix-product backend promises: tiles of any size, and little memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from slideformer.ops import slide_attention, tiles

from .cases import SMALL, Case, assert_agrees


class LargestTensor(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation gives, in elements."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **({} if kwargs is None else kwargs))
        for x in tree_leaves(result):
            if isinstance(x, Tensor):
                self.elements = max(self.elements, x.untyped_storage().nbytes() // x.element_size())
        return result


@pytest.mark.parametrize("elements", [1, 3 * 20 * 7 * 2, 10**9], ids=["a row", "two rows", "all"])
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_any_size_of_tile_gives_the_same(monkeypatch: pytest.MonkeyPatch, case: Case, elements: int) -> None:
    monkeypatch.setattr(tiles, "TILE_ELEMENTS", {"cpu": elements})
    assert_agrees(case, "matmul", torch.float64)


def deformed(size: int) -> tuple[dict[str, Tensor], int]:
    case = Case(5, 1, "zeros", (size, size), 2, 32, ("shift_weight", "shift_bias", "key_bias"), True)
    tensors = case.tensors(torch.float32)
    padded = 2 * (size + 4) ** 2 * 2 * 32
    return tensors, padded


def test_no_tensor_is_larger_than_one_padded_map() -> None:
    tensors, padded = deformed(32)
    with LargestTensor() as seen:
        slide_attention(**tensors, kernel_size=5, backend="matmul").sum().backward()
    assert seen.elements <= padded
    with LargestTensor() as seen:
        slide_attention(**tensors, kernel_size=5, backend="unfold").sum().backward()
    assert seen.elements > 20 * padded / 2  # the counter sees what Im2Col lays out


def test_nothing_but_the_arguments_is_kept_for_the_backward_pass() -> None:
    tensors, _ = deformed(16)
    arguments = {x.untyped_storage().data_ptr() for x in tensors.values()}
    kept: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        kept.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        slide_attention(**tensors, kernel_size=5, backend="matmul")
    assert len(kept) == len(tensors)
    assert {x.untyped_storage().data_ptr() for x in kept} == arguments
