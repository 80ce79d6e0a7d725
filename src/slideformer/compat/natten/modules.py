# SPDX-License-Identifier: Apache-2.0
"""Neighborhood attention layers by NATTEN's names, arguments and parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ClassVar, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slideformer.compat.natten.options import check_neutral
from slideformer.layers.linear import Linear
from slideformer.layers.map_checks import check_heads, check_map
from slideformer.layers.neighborhood import WindowOptions
from slideformer.ops import checks, slide_attention, slide_attention_values, slide_attention_weights
from slideformer.ops.functional import Size

P = ParamSpec("P")
R = TypeVar("R")
# Names that arguments had in other releases: `dim` before 0.21, `bias` before 0.17.
RENAMED = {"dim": "embed_dim", "bias": "rel_pos_bias"}
ADVICE = "; put channels last, and use the layer for as many axes as the map has"


def renaming(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which also takes its arguments by their names in other releases."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for old, new in RENAMED.items():
            if old in kwargs and new in kwargs:
                raise TypeError(
                    f"{function.__qualname__}() got multiple values for argument {new!r}, "
                    f"also named {old!r}; give it once"
                )
        named: Any = {RENAMED.get(name, name): value for name, value in kwargs.items()}
        return function(*args, **named)

    return call


class NeighborhoodAttention(nn.Module):
    """Self-attention of every position to its nearest neighbours, with the parameters of NATTEN's layers.

    State dicts of NATTEN's layers load by name; where they have an ``rpb``, with ``rel_pos_bias=True``.

    Args:
        embed_dim: channels C of the map, a multiple of ``num_heads``; ``dim`` before 0.21.
        num_heads: heads G.
        kernel_size: odd length of the window, one for all axes or one an axis.
        stride: always 1.
        dilation: spacing of the window's taps, one for all axes or one an axis.
        is_causal: False.
        qkv_bias: whether the projection to query, key and value has a bias.
        qk_scale: factor of the logits, ``D ** -0.5`` if None.
        proj_drop: dropout of the output, a probability.
        rel_pos_bias: whether a relative position bias is learned, as in NATTEN before 0.20; before 0.17 its
            name was ``bias``, and it was True by default.
        attn_drop: dropout of the attention weights, a probability.
        options: others of NATTEN's, with values that change nothing.

    Shape: ``(B, *map, C) -> (B, *map, C)``, any size at every call.

    Raises:
        ValueError: sizes that do not fit, or an option that slideformer lacks.
        TypeError: an unknown option.
    """

    axes: ClassVar[int]

    @renaming
    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        kernel_size: Size,
        stride: Size = 1,
        dilation: Size = 1,
        is_causal: bool | Sequence[bool] = False,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        proj_drop: float = 0.0,
        *,
        rel_pos_bias: bool = False,
        attn_drop: float = 0.0,
        **options: object,
    ) -> None:
        super().__init__()
        check_neutral({"stride": stride, "is_causal": is_causal, **options}, self.axes)
        check_heads(embed_dim, num_heads)
        window = checks.window(kernel_size, dilation, "clamp", axes=self.axes)
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.kernel_size = window.kernel_size
        self.dilation = window.dilation
        self.scale = (embed_dim // num_heads) ** -0.5 if qk_scale is None else qk_scale
        self.attn_drop = attn_drop
        self.qkv = Linear(embed_dim, 3 * embed_dim, bias=qkv_bias)
        self.rpb = nn.Parameter(torch.empty(num_heads, *window.table)) if rel_pos_bias else None
        self.proj = Linear(embed_dim, embed_dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the parameters of this layer itself."""
        if self.rpb is not None:
            nn.init.trunc_normal_(self.rpb, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Attend: ``(B, *map, C) -> (B, *map, C)``."""
        checks.strided("x", x)
        check_map(x, self.embed_dim, self.axes, ADVICE)
        query, key, value = self.qkv(x).unflatten(-1, (3 * self.num_heads, -1)).chunk(3, dim=-2)
        if self.training and self.attn_drop > 0:
            weights = slide_attention_weights(
                query, key, logit_bias=self.rpb, scale=self.scale, **self.window()
            )
            out = slide_attention_values(F.dropout(weights, self.attn_drop), value, **self.window())
        else:
            out = slide_attention(query, key, value, logit_bias=self.rpb, scale=self.scale, **self.window())
        return self.proj_drop(self.proj(out.flatten(-2)))

    def window(self) -> WindowOptions:
        """The window, as the operator's arguments."""
        return {
            "kernel_size": self.kernel_size,
            "dilation": self.dilation,
            "border": "clamp",
            "key_mask": None,
        }

    def extra_repr(self) -> str:
        """Options, for ``print``."""
        return (
            f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, kernel_size={self.kernel_size}, "
            f"dilation={self.dilation}, rel_pos_bias={self.rpb is not None}"
        )


class NeighborhoodAttention1D(NeighborhoodAttention):
    """`NeighborhoodAttention` over sequences, ``(B, L, C)``."""

    axes = 1


class NeighborhoodAttention2D(NeighborhoodAttention):
    """`NeighborhoodAttention` over maps, ``(B, H, W, C)``."""

    axes = 2


class NeighborhoodAttention3D(NeighborhoodAttention):
    """`NeighborhoodAttention` over volumes, ``(B, Z, H, W, C)``."""

    axes = 3
