# SPDX-License-Identifier: Apache-2.0
"""Slide-PVTv2: a PVTv2 whose first stages attend by sliding (Pan et al., 2023, section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from timm.layers import LayerNorm
from torch import nn
from typing_extensions import Unpack

from slideformer.layers.depthwise_mlp import DepthwiseMlp
from slideformer.layers.patch import ConvMerging, PatchEmbed
from slideformer.layers.spatial_reduction import SpatialReductionAttention
from slideformer.models import registry
from slideformer.models.initialise import init_convolution
from slideformer.models.plan import Plan, SharedArguments
from slideformer.models.pyramid import Block, Pyramid, Stage


@dataclass(frozen=True)
class Config:
    """One variant: the arguments of `SlidePvtV2` that distinguish it from its siblings."""

    depths: tuple[int, ...]
    drop_path_rate: float
    img_size: int = 224
    patch_size: int = 4


B1 = Config(depths=(2, 2, 2, 2), drop_path_rate=0.1)
VARIANTS = {
    "slide_pvt_v2_b1": B1,
    "slide_pvt_v2_b2": replace(B1, depths=(3, 4, 6, 3)),
    "slide_pvt_v2_b3": replace(B1, depths=(3, 4, 18, 3), drop_path_rate=0.3),
    "slide_pvt_v2_b4": replace(B1, depths=(3, 8, 27, 3), drop_path_rate=0.3),
}


class SlidePvtV2(Pyramid):
    """PVTv2 (Wang et al., 2022) with slide attention in some stages, as timm builds its models.

    Patches overlap, the MLPs contain a depthwise convolution, and each stage ends in a norm. By default
    ``norm_layer``, of the blocks and after the stages, is timm's layer norm, which has the epsilon of 1e-6
    that the authors use there.

    A program by ``torch.export`` with dynamic sizes holds for images from 49 pixels a side, that of the plain
    host from 61: PyTorch takes no dynamic axis whose size may be 1, and keys are fewer than positions.

    Args:
        patch_size: pixels from one patch to the next; a patch is ``2 * patch_size - 1`` wide.
        embed_dims: channels of each stage.
        depths: blocks of each stage.
        num_heads: heads of each stage.
        reductions: positions a side that one key stands for, of each stage, where it does not slide.
        mlp_ratios: hidden channels of the MLPs, in multiples of their input, of each stage.
        shared: see `SharedArguments`.

    Shape: ``(B, in_chans, height, width) -> (B, num_classes)``.

    Raises:
        ValueError: arguments of the stages or ``slide_stages`` do not fit together.
    """

    def __init__(
        self,
        *,
        patch_size: int = 4,
        embed_dims: Sequence[int] = (64, 128, 320, 512),
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (1, 2, 5, 8),
        reductions: Sequence[int] = (8, 4, 2, 1),
        mlp_ratios: Sequence[float] = (8, 8, 4, 4),
        **shared: Unpack[SharedArguments],
    ) -> None:
        own: SharedArguments = {"norm_layer": LayerNorm, **shared}
        per_stage = {"embed_dims": embed_dims, "reductions": reductions, "mlp_ratios": mlp_ratios}
        plan = Plan(own, embed_dims, depths, num_heads, patch_size, per_stage)

        def make_block(stage: int, block: int) -> Block:
            dim = embed_dims[stage]
            mlp = DepthwiseMlp(dim, int(dim * mlp_ratios[stage]), drop=plan.drop)
            attention = (
                plan.local_attention(stage)
                if stage in plan.slide_stages
                else SpatialReductionAttention(dim, num_heads[stage], reductions[stage], **plan.attention)
            )
            return Block(dim, attention, mlp, plan.norm, plan.drop_path(stage, block))

        def make_stage(stage: int) -> Stage:
            dim = embed_dims[stage]
            merging = ConvMerging(embed_dims[stage - 1], dim, kernel_size=3) if stage else nn.Identity()
            return Stage(merging, plan.blocks(stage, make_block), plan.norm(dim))

        in_chans, kernel_size = plan.options["in_chans"], 2 * patch_size - 1
        super().__init__(
            plan,
            patch_embed=PatchEmbed(in_chans, embed_dims[0], patch_size, kernel_size=kernel_size),
            stages=[make_stage(stage) for stage in plan.stages],
            norm=nn.Identity(),
        )
        self.apply(init_convolution)


default_cfgs = registry.default_cfgs(VARIANTS)
registry.register(SlidePvtV2, VARIANTS, __name__)
