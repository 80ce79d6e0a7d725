# SPDX-License-Identifier: Apache-2.0
"""Slide-DAT: a DAT++ whose local attention slides (Pan et al., 2023, argue for it, without one)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from typing_extensions import Unpack

from slideformer.layers.channels_first import channels_first
from slideformer.layers.deformable_attention import DeformableAttention
from slideformer.layers.depthwise_mlp import DepthwiseMlp
from slideformer.layers.patch import ConvMerging, PatchEmbed
from slideformer.models import registry
from slideformer.models.plan import Plan, SharedArguments
from slideformer.models.pyramid import Block, Pyramid, make_stages


@dataclass(frozen=True)
class Config:
    """One variant: the arguments of `SlideDat` that distinguish it from its siblings."""

    embed_dim: int
    num_heads: tuple[int, ...]
    groups: tuple[int, ...]
    drop_path_rate: float
    depths: tuple[int, ...] = (2, 4, 18, 2)
    img_size: int = 224
    # Two convolutions of stride two.
    patch_size: ClassVar[int] = 4


VARIANTS = {
    "slide_dat_tiny": Config(64, num_heads=(2, 4, 8, 16), groups=(1, 2, 4, 8), drop_path_rate=0.2),
    "slide_dat_small": Config(96, num_heads=(3, 6, 12, 24), groups=(1, 2, 3, 6), drop_path_rate=0.4),
}


class PerceivingBlock(Block):
    """A block with a local perception unit before it, a residual 3 x 3 depthwise convolution.

    Args:
        dim: channels C.
        attention: maps ``(B, H, W, C)`` to ``(B, H, W, C)``.
        mlp: does so, too.
        norm_layer: builds the norms from their number of channels.
        drop_path: probability that an image skips either of the two in training.

    Shape: ``(B, H, W, C) -> (B, H, W, C)``.
    """

    def __init__(
        self,
        dim: int,
        attention: nn.Module,
        mlp: nn.Module,
        norm_layer: Callable[[int], nn.Module],
        drop_path: float,
    ) -> None:
        super().__init__(dim, attention, mlp, norm_layer, drop_path)
        self.perception = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform a map: ``(B, H, W, C) -> (B, H, W, C)``."""
        return super().forward(x + self.perception(channels_first(x)).permute(0, 2, 3, 1))


class SlideDat(Pyramid):
    """DAT++ (Xia et al., 2023) with slide attention in some stages, as timm builds its models.

    In each stage but the last, blocks with local attention and deformable blocks alternate. Local attention
    is neighborhood attention in the plain host and slide attention in a stage that slides: by default the
    first three. By default ``drop_path_rate`` is 0.2.

    Args:
        embed_dim: channels of the first stage; every further stage doubles them.
        depths: blocks of each stage.
        num_heads: heads of each stage.
        groups: groups of each stage, whose offsets differ.
        strides: positions a side for one deformed point, of each stage.
        offset_kernel_sizes: side of the offsets' convolution, of each stage.
        neighborhood_size: side of the neighbourhood where local attention does not slide.
        mlp_ratio: hidden channels of the MLPs, in multiples of their input.
        shared: see `SharedArguments`.

    Shape: ``(B, in_chans, height, width) -> (B, num_classes)``.

    Raises:
        ValueError: arguments of the stages or ``slide_stages`` do not fit together, or the last stage, which
            has no local attention, is to slide.
    """

    def __init__(
        self,
        *,
        embed_dim: int = 64,
        depths: Sequence[int] = (2, 4, 18, 2),
        num_heads: Sequence[int] = (2, 4, 8, 16),
        groups: Sequence[int] = (1, 2, 4, 8),
        strides: Sequence[int] = (8, 4, 2, 1),
        offset_kernel_sizes: Sequence[int] = (9, 7, 5, 3),
        neighborhood_size: int = 7,
        mlp_ratio: float = 4.0,
        **shared: Unpack[SharedArguments],
    ) -> None:
        plan = Plan(
            {"slide_stages": (0, 1, 2), "drop_path_rate": 0.2, **shared},
            embed_dim,
            depths,
            num_heads,
            Config.patch_size,
            {"groups": groups, "strides": strides, "offset_kernel_sizes": offset_kernel_sizes},
            last_stays="the last stage has no local attention",
        )

        def make_attention(stage: int, block: int) -> nn.Module:
            if stage == plan.stages[-1] or block % 2:
                return DeformableAttention(
                    plan.dims[stage],
                    num_heads[stage],
                    groups[stage],
                    stride=strides[stage],
                    kernel_size=offset_kernel_sizes[stage],
                    map_size=plan.map_size(stage),
                    **plan.attention,
                )
            if stage in plan.slide_stages:
                return plan.local_attention(stage)
            return plan.neighborhood_attention(stage, neighborhood_size)

        def make_block(stage: int, block: int) -> PerceivingBlock:
            dim, drop_path = plan.dims[stage], plan.drop_path(stage, block)
            mlp = DepthwiseMlp(dim, int(dim * mlp_ratio), residual=True, drop=plan.drop)
            return PerceivingBlock(dim, make_attention(stage, block), mlp, plan.norm, drop_path)

        def make_merging(stage: int) -> ConvMerging:
            dim, out_dim = plan.dims[stage - 1], plan.dims[stage]
            return ConvMerging(dim, out_dim, kernel_size=3, bias=False, norm_layer=plan.norm)

        in_chans, stem_dim = plan.options["in_chans"], embed_dim // 2
        super().__init__(
            plan,
            patch_embed=nn.Sequential(
                PatchEmbed(in_chans, stem_dim, Config.patch_size // 2, kernel_size=3, norm_layer=plan.norm),
                nn.GELU(),
                ConvMerging(stem_dim, embed_dim, kernel_size=3, norm_layer=plan.norm),
            ),
            stages=make_stages(plan, make_block, make_merging),
            norm=plan.norm(plan.dims[-1]),
        )


default_cfgs = registry.default_cfgs(VARIANTS, first_conv="patch_embed.0.proj")
registry.register(SlideDat, VARIANTS, __name__)
