# SPDX-License-Identifier: Apache-2.0
"""Memory: what a training step needs at least, and what a device has left."""

from __future__ import annotations

from copy import deepcopy
from math import inf
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

# Of each trained parameter: its gradient, and two moments of the optimiser.
COPIES = 3
INFORMATION = Path("/proc/meminfo")


def training_bytes(model: nn.Module, images: tuple[int, int, int, int]) -> int:
    """Memory that a training step takes besides the parameters, at the least, in bytes of float32.

    It is what the forward pass keeps for the backward pass, the gradients, and the moments of an optimiser
    of Adam's kind; not what a layer needs while it computes. The forward pass runs on the device ``meta``:
    nothing is computed, and the model stays as it is.

    Args:
        model: takes images alone; in training mode, its random layers count.
        images: shape of a batch, ``(B, 3, height, width)``.

    Raises:
        RuntimeError: the model does not run on the device ``meta``.

    Example:
        >>> training_bytes(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), (4, 3, 2, 2))
        972
    """
    # A copy without numbers: what a layer keeps of a call stays out of the model.
    memo: dict[int, Tensor] = {id(x): x.detach().to("meta") for x in model.buffers()}
    memo |= {id(x): nn.Parameter(x.detach().to("meta"), x.requires_grad) for x in model.parameters()}
    own = {tensor.untyped_storage()._cdata for tensor in memo.values()}
    kept = dict[int, Tensor]()  # a tensor of each storage, so that none is freed and its number used again

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.random.fork_rng(devices=[]), saved_tensors_hooks(keep, lambda tensor: tensor):
        deepcopy(model, memo)(torch.empty(images, device="meta"))
    activations = sum(kept[number].untyped_storage().nbytes() for number in kept.keys() - own)
    trained = sum(x.numel() * x.element_size() for x in model.parameters() if x.requires_grad)
    return activations + COPIES * trained


def available_bytes(device: str) -> float:
    """Memory that a device has left; infinite where the system does not say."""
    if torch.device(device).type == "cuda":
        return float(torch.cuda.mem_get_info()[0])
    if torch.device(device).type != "cpu" or not INFORMATION.exists():
        return inf
    lines = INFORMATION.read_text(encoding="ascii").splitlines()
    return float(next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024)
