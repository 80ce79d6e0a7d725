# SPDX-License-Identifier: Apache-2.0
"""Slide-Swin weights of the paper's authors in our names and layouts; the numbers stay the same."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from slideformer.errors import UserError
from slideformer.layers.window_attention import relative_position_index
from slideformer.models.convert.state import check_state, check_unique, load_all_or_none
from slideformer.models.merge import is_merged

# Our names for theirs, where only the name differs; the first match counts.
RENAMES = (
    (r"head\.(.*)", r"head.fc.\1"),
    (r"layers\.(\d+\.blocks\.\d+)\.attn\.(.*)", r"stages.\1.attention.\2"),
    (r"layers\.(\d+\.blocks\.\d+\.(?:norm|mlp).*)", r"stages.\1"),
    # They merge patches at the end of a stage, we do at the start of the next.
    (r"layers\.0\.downsample\.(.*)", r"stages.1.downsample.\1"),
    (r"layers\.1\.downsample\.(.*)", r"stages.2.downsample.\1"),
    (r"layers\.2\.downsample\.(.*)", r"stages.3.downsample.\1"),
)
# Between positions of different regions, in the masks that they store.
AUTHORS_EXCLUDED = -100.0
CONVOLUTIONS = tuple(f"{name}.{part}" for name in ("dep_conv", "dep_conv1") for part in ("weight", "bias"))


def config_from_authors(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Infer the arguments of `SlideSwin` from the shapes of the authors' weights.

    Raises:
        UserError: the names are not those of the authors' Slide-Swin.
    """
    stages = sorted({int(found[1]) for name in state if (found := re.match(r"layers\.(\d+)\.", name))})
    try:
        tables = [state[f"layers.{i}.blocks.0.attn.relative_position_bias_table"] for i in stages]
        patches = state["patch_embed.proj.weight"]
        hidden = state["layers.0.blocks.0.mlp.fc1.weight"]
    except KeyError as error:
        raise UserError(f"the weights must be the authors' Slide-Swin, but {error} is missing") from error
    slides = [i for i, table in enumerate(tables) if table.ndim == 6]
    # (1, G, 1, T, 1, 1) where a stage slides, ((2 w - 1)^2, G) where it has windows.
    windows = [7 if table.ndim == 6 else (math.isqrt(table.shape[0]) + 1) // 2 for table in tables]
    kernels = {math.isqrt(tables[i].shape[3]) for i in slides}
    if len(kernels) > 1:
        raise UserError(f"all stages must slide with one kernel size, got {sorted(kernels)}")
    depths = tuple(sum(f"layers.{i}.blocks.{j}.norm1.weight" in state for j in range(1000)) for i in stages)
    return {
        "in_chans": patches.shape[1],
        "num_classes": state["head.weight"].shape[0] if "head.weight" in state else 0,
        "patch_size": patches.shape[2],
        "embed_dim": patches.shape[0],
        "depths": depths,
        "num_heads": tuple(table.shape[1] for table in tables),
        "window_size": tuple(windows),
        "kernel_size": kernels.pop() if kernels else 3,
        "slide_stages": tuple(slides),
        "mlp_ratio": hidden.shape[0] / hidden.shape[1],
        "qkv_bias": "layers.0.blocks.0.attn.qkv.bias" in state,
    }


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the authors' state dict to our names and layouts; unknown names stay unchanged.

    Raises:
        UserError: a constant that they store is not what our layers compute, the convolutions of a shift are
            incomplete or do not fit together, or two names become one of ours.
    """
    converted: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    for name, tensor in state.items():
        prefix, _, part = name.rpartition(".attn.")
        if part == "relative_position_index" or name.endswith(".attn_mask"):
            check_constant(name, tensor)
            continue
        table = state.get(f"{prefix}.attn.relative_position_bias_table")
        if part in CONVOLUTIONS and table is not None:
            continue
        if table is not None and table.ndim == 6:
            # (1, G, 1, T, 1, 1)
            if part == "relative_position_bias_table":
                names[name], tensor = rename(f"{prefix}.attn.key_bias"), table.flatten(2).squeeze(0)
            elif part.startswith("qkv."):
                tensor = heads_inside(tensor, table.shape[1])
        ours = names.setdefault(name, rename(name))
        converted[ours] = tensor
    for name in state:
        if name.endswith(".attn.dep_conv1.weight"):
            prefix = name.removesuffix("dep_conv1.weight")
            for part, tensor in zip(("weight", "bias"), shift(state, prefix), strict=True):
                ours = names[f"{prefix}dep_conv1.{part}"] = rename(f"{prefix}shift.{part}")
                converted[ours] = tensor
    check_unique(names)
    return converted


def rename(name: str) -> str:
    """Our name of a parameter; a name that is not the authors' stays."""
    for theirs, ours in RENAMES:
        if found := re.fullmatch(theirs, name):
            return found.expand(ours)
    return name


def heads_inside(tensor: Tensor, heads: int) -> Tensor:
    """Reorder a projection's rows from [q | k | v] per head to [q heads | k heads | v heads]: ``(3 C, ...)``.

    One without rows for each head stays, so that loading rejects it by name.
    """
    if not tensor.ndim or not heads or tensor.shape[0] % (3 * heads):
        return tensor
    return tensor.unflatten(0, (heads, 3, -1)).transpose(0, 1).flatten(0, 2)


def shift(state: Mapping[str, Tensor], prefix: str) -> tuple[Tensor, Tensor]:
    """Learned shift ``(D, T, T)`` and bias ``(D, T)`` from the authors' two convolutions."""
    missing = [prefix + name for name in CONVOLUTIONS if prefix + name not in state]
    if missing:
        raise UserError(f"the weights must hold both convolutions of the shift, missing {', '.join(missing)}")
    fixed, fixed_bias, learned, bias = (state[prefix + name] for name in CONVOLUTIONS)
    taps = learned.shape[2:].numel() if learned.ndim == 4 else 0
    shapes = [tuple(x.shape) for x in (fixed, fixed_bias, learned, bias)]
    rows = learned.shape[:1]
    if not taps or rows[0] % taps or shapes != 2 * [(*rows, 1, *learned.shape[2:]), (*rows,)]:
        raise UserError(
            f"{prefix}dep_conv and dep_conv1 must have kernels (D T, 1, K, K) and biases (D T), T = K K, "
            f"got {', '.join(map(str, shapes))}; the file is damaged"
        )
    identity = torch.eye(taps, dtype=fixed.dtype)
    # Their fixed kernel is frozen at the identity; should it have moved, the difference is learned.
    weight = learned.reshape(-1, taps, taps) + (fixed.reshape(-1, taps, taps) - identity)
    return weight, (bias + fixed_bias).reshape(-1, taps)


def check_constant(name: str, tensor: Tensor) -> None:
    """Check that a stored index or mask is the one that our windows compute."""
    window = math.isqrt(tensor.shape[-1]) if tensor.ndim else 0
    if name.endswith("relative_position_index"):
        right = torch.equal(tensor, relative_position_index(window))
    else:
        # (M, N, N)
        right = tensor.ndim == 3 and tensor.shape[1:] == (window**2, window**2)
        right = right and bool(((tensor == 0) | (tensor == AUTHORS_EXCLUDED)).all())
    if not right:
        raise UserError(f"{name} must be Swin's for a window of {window}, but it is not; the file is damaged")


def load_authors(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the authors' weights into a model of the same structure, either all of them or none.

    Raises:
        UserError: names or shapes do not fit, or the model was merged.
    """
    if is_merged(model):
        raise UserError("the authors' weights need a model that is not merged; load first, then merge")
    check_state(model, state)
    load_all_or_none(model, convert(state))
