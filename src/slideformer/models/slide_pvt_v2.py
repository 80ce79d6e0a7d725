# SPDX-License-Identifier: Apache-2.0
"""Slide-PVTv2: a PVTv2 whose first stages attend by sliding (Pan et al., 2023, section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from timm.layers import LayerNorm, get_norm_layer
from torch import nn

from slideformer.layers.depthwise_mlp import DepthwiseMlp
from slideformer.layers.patch import ConvMerging, PatchEmbed
from slideformer.layers.slide_attention import SlideAttention
from slideformer.layers.spatial_reduction import SpatialReductionAttention
from slideformer.models import registry
from slideformer.models.initialise import init_convolution
from slideformer.models.pyramid import AttentionOptions, Block, Pyramid, Stage, check_stages, drop_path_rates


@dataclass(frozen=True)
class Config:
    """One variant: the arguments of `SlidePvtV2` that tell it from its siblings."""

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

    Patches overlap, the perceptrons hold a depthwise convolution, and each stage ends in a norm.

    A program by ``torch.export`` with dynamic sizes holds for images from 49 pixels a side, that of the plain
    host from 61: PyTorch takes no dynamic axis whose size may be 1, and keys are fewer than positions.

    Args:
        img_size: accepted as by timm's models; the model takes images of every size at every call.
        in_chans: channels of an image.
        num_classes: classes; 0 for no classifier.
        global_pool: timm's name of the pooling before the classifier; ``""`` for none.
        patch_size: pixels from one patch to the next; a patch is ``2 * patch_size - 1`` wide.
        embed_dims: channels of each stage.
        depths: blocks of each stage.
        num_heads: heads of each stage.
        reductions: positions a side that one key stands for, of each stage, where it does not slide.
        mlp_ratios: hidden channels of the perceptrons, in multiples of their input, of each stage.
        kernel_size: side of the neighbourhood in the stages that slide.
        slide_stages: the stages, from 0, whose blocks are slide attention; ``()`` is the plain PVTv2.
        deform: whether slide attention has a learned shift.
        qkv_bias: whether the projections to query, key and value have a bias.
        drop_rate: dropout before the classifier.
        proj_drop_rate: dropout after projections and perceptrons.
        attn_drop_rate: dropout of attention weights.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0 at the first.
        norm_layer: normalisation in blocks and after stages, by timm's name or as a class; that of
            timm has the epsilon of 1e-6 that the authors use there.
        backend: of the slide attention operator.

    Shape: ``(B, in_chans, height, width) -> (B, num_classes)``.

    Raises:
        ValueError: what is given for each stage, or ``slide_stages``, does not fit together.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] | None = None,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        patch_size: int = 4,
        embed_dims: Sequence[int] = (64, 128, 320, 512),
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (1, 2, 5, 8),
        reductions: Sequence[int] = (8, 4, 2, 1),
        mlp_ratios: Sequence[float] = (8, 8, 4, 4),
        kernel_size: int = 3,
        slide_stages: Sequence[int] = (0, 1),
        deform: bool = True,
        qkv_bias: bool = True,
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        norm_layer: str | type[nn.Module] = LayerNorm,
        backend: str = "auto",
    ) -> None:
        per_stage = {
            "embed_dims": embed_dims,
            "num_heads": num_heads,
            "reductions": reductions,
            "mlp_ratios": mlp_ratios,
        }
        check_stages(depths, per_stage, slide_stages)
        norm = get_norm_layer(norm_layer)
        shared = AttentionOptions(qkv_bias=qkv_bias, attn_drop=attn_drop_rate, proj_drop=proj_drop_rate)
        drop_paths = drop_path_rates(drop_path_rate, depths)

        def make_attention(stage: int) -> nn.Module:
            dim, heads = embed_dims[stage], num_heads[stage]
            if stage in slide_stages:
                return SlideAttention(dim, heads, kernel_size, deform=deform, backend=backend, **shared)
            return SpatialReductionAttention(dim, heads, reductions[stage], **shared)

        def make_block(stage: int, block: int) -> Block:
            dim = embed_dims[stage]
            mlp = DepthwiseMlp(dim, int(dim * mlp_ratios[stage]), drop=proj_drop_rate)
            return Block(make_attention(stage), mlp, (norm(dim), norm(dim)), drop_paths[stage][block])

        def make_stage(stage: int) -> Stage:
            dim = embed_dims[stage]
            merging = ConvMerging(embed_dims[stage - 1], dim, kernel_size=3) if stage else nn.Identity()
            return Stage(merging, [make_block(stage, block) for block in range(depths[stage])], norm(dim))

        super().__init__(
            patch_embed=PatchEmbed(in_chans, embed_dims[0], patch_size, kernel_size=2 * patch_size - 1),
            stages=[make_stage(stage) for stage in range(len(depths))],
            norm=nn.Identity(),
            dims=embed_dims,
            patch_size=patch_size,
            in_chans=in_chans,
            num_classes=num_classes,
            global_pool=global_pool,
            drop_rate=drop_rate,
        )
        self.apply(init_convolution)


default_cfgs = registry.default_cfgs(VARIANTS)
registry.register(SlidePvtV2, VARIANTS, __name__)
