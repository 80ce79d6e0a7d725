# SPDX-License-Identifier: Apache-2.0
"""Slide-Swin: a Swin Transformer whose first stages attend by sliding (Pan et al., 2023, section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn
from typing_extensions import Unpack

from slideformer.layers.mlp import Mlp
from slideformer.layers.patch import PatchEmbed, PatchMerging
from slideformer.layers.window_attention import WindowAttention
from slideformer.models import registry
from slideformer.models.plan import Plan, SharedArguments
from slideformer.models.pyramid import Block, Pyramid, make_stages


@dataclass(frozen=True)
class Config:
    """One variant: the arguments of `SlideSwin` that distinguish it from its siblings."""

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    drop_path_rate: float
    img_size: int = 224
    patch_size: int = 4
    window_size: int | tuple[int, ...] = 7


TINY = Config(embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), drop_path_rate=0.2)
VARIANTS = {
    # For images of 32 x 32: its maps are 16, 8, 4 and 2 positions wide.
    "slide_swin_nano": Config(
        embed_dim=32,
        depths=(1, 1, 2, 1),
        num_heads=(2, 4, 8, 16),
        drop_path_rate=0.05,
        img_size=32,
        patch_size=2,
        window_size=(4, 4, 4, 2),
    ),
    "slide_swin_tiny": TINY,
    "slide_swin_small": replace(TINY, depths=(2, 2, 18, 2), drop_path_rate=0.3),
    "slide_swin_base": Config(128, (2, 2, 18, 2), num_heads=(4, 8, 16, 32), drop_path_rate=0.5),
}


class SlideSwin(Pyramid):
    """Swin Transformer with slide attention in some stages, as timm builds its models.

    Args:
        patch_size: side of a patch, in pixels.
        embed_dim: channels of the first stage; every further stage doubles them.
        depths: blocks of each stage.
        num_heads: heads of each stage.
        window_size: side of a window in the stages that do not slide, of all stages or of each.
        mlp_ratio: hidden channels of the MLP, in multiples of its input.
        shared: see `SharedArguments`.

    Shape: ``(B, in_chans, height, width) -> (B, num_classes)``.

    Raises:
        ValueError: depths, heads, windows or ``slide_stages`` do not fit together.
    """

    def __init__(
        self,
        *,
        patch_size: int = 4,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int | Sequence[int] = 7,
        mlp_ratio: float = 4.0,
        **shared: Unpack[SharedArguments],
    ) -> None:
        own_windows = {} if isinstance(window_size, int) else {"window_size": window_size}
        plan = Plan(shared, embed_dim, depths, num_heads, patch_size, own_windows)
        windows = [window_size] * len(depths) if isinstance(window_size, int) else window_size

        def make_attention(stage: int, block: int) -> nn.Module:
            if stage in plan.slide_stages:
                return plan.local_attention(stage)
            # Every second block looks across the borders of the windows before it.
            shift = block % 2 == 1
            return WindowAttention(
                plan.dims[stage], num_heads[stage], windows[stage], shift=shift, **plan.attention
            )

        def make_block(stage: int, block: int) -> Block:
            dim = plan.dims[stage]
            mlp = Mlp(dim, int(dim * mlp_ratio), drop=plan.drop)
            return Block(dim, make_attention(stage, block), mlp, plan.norm, plan.drop_path(stage, block))

        def make_merging(stage: int) -> PatchMerging:
            return PatchMerging(plan.dims[stage - 1], plan.dims[stage], norm_layer=plan.norm)

        super().__init__(
            plan,
            patch_embed=PatchEmbed(plan.options["in_chans"], embed_dim, patch_size, norm_layer=plan.norm),
            stages=make_stages(plan, make_block, make_merging),
            norm=plan.norm(plan.dims[-1]),
        )


default_cfgs = registry.default_cfgs(VARIANTS)
registry.register(SlideSwin, VARIANTS, __name__)
