# SPDX-License-Identifier: Apache-2.0
"""Slide-MViTv2: an MViTv2 that slides where its maps are large and keep their size.

Pan et al., 2023, argue against pooling keys and values but publish no such model; the rule which blocks
slide, those of the first two stages that change neither the map nor its channels, is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from timm.layers import LayerNorm
from timm.models import register_notrace_module
from torch import Tensor, nn
from typing_extensions import Unpack

from slideformer.layers.channels_first import channels_first
from slideformer.layers.drop_path import DropPath
from slideformer.layers.mlp import Mlp
from slideformer.layers.patch import PatchEmbed, pad_to_multiple
from slideformer.layers.pooling_attention import PoolingAttention
from slideformer.models import registry
from slideformer.models.plan import Plan, SharedArguments
from slideformer.models.pyramid import Block, Pyramid, make_stages


@dataclass(frozen=True)
class Config:
    """One variant: the arguments of `SlideMvitV2` that distinguish it from its siblings."""

    depths: tuple[int, ...]
    drop_path_rate: float = 0.1
    img_size: int = 224
    patch_size: int = 4


TINY = Config(depths=(1, 2, 5, 2))
VARIANTS = {"slide_mvit_v2_tiny": TINY, "slide_mvit_v2_small": replace(TINY, depths=(1, 2, 11, 2))}


# It depends on the size of its map, which torch.fx cannot trace.
@register_notrace_module
class PoolingBlock(nn.Module):
    """A block whose attention halves the side of the map and widens its channels.

    The shortcut changes the normalised map in the same way, by a projection and a maximum.

    Args:
        dim: channels C.
        out_dim: channels C'.
        attention: maps ``(B, H, W, C)`` to ``(B, ceil(H / 2), ceil(W / 2), C')``.
        mlp: keeps the shape of the new map.
        norm_layer: builds the norms from their number of channels.
        drop_path: probability that an image skips either of the two in training.

    Shape: ``(B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), C')``.
    """

    def __init__(
        self,
        dim: int,
        out_dim: int,
        attention: nn.Module,
        mlp: nn.Module,
        norm_layer: Callable[[int], nn.Module],
        drop_path: float,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm_layer(dim), norm_layer(out_dim)
        self.attention = attention
        self.mlp = mlp
        self.shortcut = nn.Linear(dim, out_dim)
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Transform a map: ``(B, H, W, C) -> (B, H', W', C')``."""
        x = self.norm1(x)
        # Padded by what is never the maximum, so that an exported program knows the size as half.
        shortcut = pad_to_multiple(self.shortcut(x), 2, value=-torch.inf)
        shortcut = self.pool(channels_first(shortcut)).permute(0, 2, 3, 1)
        x = self.drop_path(shortcut, self.attention, x)
        return self.drop_path(x, lambda x: self.mlp(self.norm2(x)), x)


class SlideMvitV2(Pyramid):
    """MViTv2 (Li et al., 2022) with slide attention in some stages, as timm builds its models.

    The first block of each stage but the first pools its map to half the side, and never slides. By default
    ``norm_layer`` is timm's layer norm, which has the epsilon of 1e-6 that the authors use.

    Args:
        patch_size: pixels from one patch to the next; a patch is ``2 * patch_size - 1`` wide.
        embed_dim: channels of the first stage; every further stage doubles them.
        depths: blocks of each stage.
        num_heads: heads of each stage.
        key_strides: positions a side that one key stands for, of each stage, on its map before pooling in
            the first block and after it in the others.
        mlp_ratio: hidden channels of the MLPs, in multiples of their input.
        shared: see `SharedArguments`.

    Shape: ``(B, in_chans, height, width) -> (B, num_classes)``.

    Raises:
        ValueError: arguments of the stages or ``slide_stages`` do not fit together.
    """

    def __init__(
        self,
        *,
        patch_size: int = 4,
        embed_dim: int = 96,
        depths: Sequence[int] = (1, 2, 5, 2),
        num_heads: Sequence[int] = (1, 2, 4, 8),
        key_strides: Sequence[int] = (4, 2, 1, 1),
        mlp_ratio: float = 4.0,
        **shared: Unpack[SharedArguments],
    ) -> None:
        own: SharedArguments = {"norm_layer": LayerNorm, **shared}
        plan = Plan(own, embed_dim, depths, num_heads, patch_size, {"key_strides": key_strides})

        def make_pooling(stage: int, before: int) -> PoolingAttention:
            return PoolingAttention(
                plan.dims[before],
                num_heads[stage],
                out_dim=plan.dims[stage],
                query_stride=2 ** (stage - before),
                key_stride=key_strides[stage],
                map_size=plan.map_size(before),
                norm_layer=plan.norm,
                **plan.attention,
            )

        def make_block(stage: int, block: int) -> nn.Module:
            dim, drop_path = plan.dims[stage], plan.drop_path(stage, block)
            mlp = Mlp(dim, int(dim * mlp_ratio), drop=plan.drop)
            if stage and not block:
                pooling = make_pooling(stage, stage - 1)
                return PoolingBlock(plan.dims[stage - 1], dim, pooling, mlp, plan.norm, drop_path)
            slides = stage in plan.slide_stages
            attention = plan.local_attention(stage) if slides else make_pooling(stage, stage)
            return Block(dim, attention, mlp, plan.norm, drop_path)

        super().__init__(
            plan,
            patch_embed=PatchEmbed(
                plan.options["in_chans"],
                embed_dim,
                patch_size,
                kernel_size=2 * patch_size - 1,
                norm_layer=nn.Identity,
            ),
            stages=make_stages(plan, make_block, lambda stage: nn.Identity()),
            norm=plan.norm(plan.dims[-1]),
        )

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters without weight decay, in addition to those of one dimension."""
        positions = ("relative_position_rows", "relative_position_columns")
        return super().no_weight_decay() | self.parameters_named(*positions)


default_cfgs = registry.default_cfgs(VARIANTS)
registry.register(SlideMvitV2, VARIANTS, __name__)
