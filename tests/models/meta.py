# SPDX-License-Identifier: Apache-2.0
"""Build models without memory and fill them afterwards, as FSDP, timm and transformers do."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import torch
from timm.models._manipulate import reinit_non_persistent_buffers
from torch import Tensor, nn


def reset_every_module(model: nn.Module) -> None:
    """FSDP's way: every module initialises the parameters and buffers of its own."""
    for module in model.modules():
        if any(True for _ in chain(module.parameters(recurse=False), module.buffers(recurse=False))):
            module.reset_parameters()


# By the library that goes this way.
HOOKS: dict[str, Callable[[nn.Module], object]] = {
    "timm": reinit_non_persistent_buffers,
    "fsdp": reset_every_module,
}


@torch.no_grad()
def loaded_from_meta(build: Callable[[], nn.Module], like: nn.Module, hook: str) -> nn.Module:
    """A model that was built on the meta device, with the weights of another, in evaluation mode.

    What nobody fills is not a number, or an index far outside.
    """
    with torch.device("meta"):
        model = build()
    assert all(x.is_meta for x in model.parameters())
    model.to_empty(device="cpu")
    for x in chain(model.parameters(), model.buffers()):
        x.fill_(torch.nan if x.is_floating_point() else 2**40 if x.dtype == torch.long else 1)
    HOOKS[hook](model)
    model.load_state_dict(like.state_dict(), strict=True)
    return model.eval()


def same(one: object, other: object) -> bool:
    """Whether two answers of tensors are equal to the bit."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    assert isinstance(one, list | tuple)
    assert isinstance(other, list | tuple)
    return all(same(a, b) for a, b in zip(one, other, strict=True))
