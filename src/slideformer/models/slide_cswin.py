# SPDX-License-Identifier: Apache-2.0
"""Slide-CSwin: a CSWin Transformer whose first stages attend by sliding (Pan et al., 2023, section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from typing_extensions import Unpack

from slideformer.layers.cross_window import CrossWindowAttention
from slideformer.layers.mlp import Mlp
from slideformer.layers.patch import ConvMerging, PatchEmbed
from slideformer.models import registry
from slideformer.models.plan import Plan, SharedArguments
from slideformer.models.pyramid import Block, Pyramid, make_stages


@dataclass(frozen=True)
class Config:
    """One variant: the arguments of `SlideCSwin` that distinguish it from its siblings."""

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    drop_path_rate: float
    img_size: int = 224
    patch_size: int = 4


TINY = Config(embed_dim=64, depths=(1, 2, 21, 1), num_heads=(2, 4, 8, 16), drop_path_rate=0.2)
SMALL = replace(TINY, depths=(2, 4, 32, 2), drop_path_rate=0.4)
VARIANTS = {
    "slide_cswin_tiny": TINY,
    "slide_cswin_small": SMALL,
    "slide_cswin_base": replace(SMALL, embed_dim=96, num_heads=(4, 8, 16, 32), drop_path_rate=0.5),
}


class SlideCSwin(Pyramid):
    """CSWin Transformer (Dong et al., 2022) with slide attention in some stages, as timm builds its models.

    Patches overlap, and where it does not slide, half of the heads attend along each axis.

    Args:
        patch_size: pixels from one patch to the next; a patch is ``2 * patch_size - 1`` wide.
        embed_dim: channels of the first stage; every further stage doubles them.
        depths: blocks of each stage.
        num_heads: heads of each stage.
        stripe_widths: width of the stripes of each stage where it does not slide; None for all of the map.
        mlp_ratio: hidden channels of the MLP, in multiples of its input.
        shared: see `SharedArguments`.

    Shape: ``(B, in_chans, height, width) -> (B, num_classes)``.

    Raises:
        ValueError: depths, heads, stripes or ``slide_stages`` do not fit together.
    """

    def __init__(
        self,
        *,
        patch_size: int = 4,
        embed_dim: int = 64,
        depths: Sequence[int] = (1, 2, 21, 1),
        num_heads: Sequence[int] = (2, 4, 8, 16),
        stripe_widths: Sequence[int | None] = (1, 2, 7, None),
        mlp_ratio: float = 4.0,
        **shared: Unpack[SharedArguments],
    ) -> None:
        plan = Plan(shared, embed_dim, depths, num_heads, patch_size, {"stripe_widths": stripe_widths})

        def make_block(stage: int, block: int) -> Block:
            dim = plan.dims[stage]
            mlp = Mlp(dim, int(dim * mlp_ratio), drop=plan.drop)
            attention = (
                plan.local_attention(stage)
                if stage in plan.slide_stages
                else CrossWindowAttention(dim, num_heads[stage], stripe_widths[stage], **plan.attention)
            )
            return Block(dim, attention, mlp, plan.norm, plan.drop_path(stage, block))

        def make_merging(stage: int) -> ConvMerging:
            return ConvMerging(plan.dims[stage - 1], plan.dims[stage], kernel_size=3, norm_layer=plan.norm)

        super().__init__(
            plan,
            # The patch is in the middle of what is projected, as far as an odd excess allows.
            patch_embed=PatchEmbed(
                plan.options["in_chans"],
                embed_dim,
                patch_size,
                kernel_size=2 * patch_size - 1,
                padding=patch_size // 2,
                norm_layer=plan.norm,
            ),
            stages=make_stages(plan, make_block, make_merging),
            norm=plan.norm(plan.dims[-1]),
        )


default_cfgs = registry.default_cfgs(VARIANTS)
registry.register(SlideCSwin, VARIANTS, __name__)
