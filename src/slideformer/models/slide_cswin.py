# SPDX-License-Identifier: Apache-2.0
"""Slide-CSwin: a CSWin Transformer whose first stages attend by sliding (Pan et al., 2023, section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from timm.layers import get_norm_layer
from torch import nn

from slideformer.layers.cross_window import CrossWindowAttention
from slideformer.layers.mlp import Mlp
from slideformer.layers.patch import ConvMerging, PatchEmbed
from slideformer.layers.slide_attention import SlideAttention
from slideformer.models import registry
from slideformer.models.pyramid import AttentionOptions, Block, Pyramid, Stage, check_stages, drop_path_rates


@dataclass(frozen=True)
class Config:
    """One variant: the arguments of `SlideCSwin` that tell it from its siblings."""

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
        img_size: accepted as by timm's models; the model takes images of every size at every call.
        in_chans: channels of an image.
        num_classes: classes; 0 for no classifier.
        global_pool: timm's name of the pooling before the classifier; ``""`` for none.
        patch_size: pixels from one patch to the next; a patch is ``2 * patch_size - 1`` wide.
        embed_dim: channels of the first stage; every further stage doubles them.
        depths: blocks of each stage.
        num_heads: heads of each stage.
        stripe_widths: width of the stripes of each stage where it does not slide; None for the whole map.
        kernel_size: side of the neighbourhood in the stages that slide.
        slide_stages: the stages, from 0, whose blocks are slide attention; ``()`` is the plain CSWin.
        deform: whether slide attention has a learned shift.
        mlp_ratio: hidden channels of the perceptron, in multiples of its input.
        qkv_bias: whether the projections to query, key and value have a bias.
        drop_rate: dropout before the classifier.
        proj_drop_rate: dropout after projections and perceptrons.
        attn_drop_rate: dropout of attention weights.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0 at the first.
        norm_layer: normalisation, by timm's name or as a class.
        backend: of the slide attention operator.

    Shape: ``(B, in_chans, height, width) -> (B, num_classes)``.

    Raises:
        ValueError: depths, heads, stripes or ``slide_stages`` do not fit together.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] | None = None,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        patch_size: int = 4,
        embed_dim: int = 64,
        depths: Sequence[int] = (1, 2, 21, 1),
        num_heads: Sequence[int] = (2, 4, 8, 16),
        stripe_widths: Sequence[int | None] = (1, 2, 7, None),
        kernel_size: int = 3,
        slide_stages: Sequence[int] = (0, 1),
        deform: bool = True,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        norm_layer: str | type[nn.Module] = nn.LayerNorm,
        backend: str = "auto",
    ) -> None:
        check_stages(depths, {"num_heads": num_heads, "stripe_widths": stripe_widths}, slide_stages)
        norm = get_norm_layer(norm_layer)
        shared = AttentionOptions(qkv_bias=qkv_bias, attn_drop=attn_drop_rate, proj_drop=proj_drop_rate)
        drop_paths = drop_path_rates(drop_path_rate, depths)
        dims = [embed_dim * 2**stage for stage in range(len(depths))]

        def make_attention(stage: int) -> nn.Module:
            dim, heads = dims[stage], num_heads[stage]
            if stage in slide_stages:
                return SlideAttention(dim, heads, kernel_size, deform=deform, backend=backend, **shared)
            return CrossWindowAttention(dim, heads, stripe_widths[stage], **shared)

        def make_block(stage: int, block: int) -> Block:
            dim = dims[stage]
            mlp = Mlp(dim, int(dim * mlp_ratio), drop=proj_drop_rate)
            return Block(make_attention(stage), mlp, (norm(dim), norm(dim)), drop_paths[stage][block])

        def make_merging(stage: int) -> nn.Module:
            return ConvMerging(dims[stage - 1], dims[stage], kernel_size=3, norm_layer=norm)

        def make_stage(stage: int) -> Stage:
            merging = make_merging(stage) if stage else nn.Identity()
            return Stage(merging, [make_block(stage, block) for block in range(depths[stage])])

        super().__init__(
            # The patch stands in the middle of what is projected, as far as an odd excess lets it.
            patch_embed=PatchEmbed(
                in_chans,
                embed_dim,
                patch_size,
                kernel_size=2 * patch_size - 1,
                padding=patch_size // 2,
                norm_layer=norm,
            ),
            stages=[make_stage(stage) for stage in range(len(depths))],
            norm=norm(dims[-1]),
            dims=dims,
            patch_size=patch_size,
            in_chans=in_chans,
            num_classes=num_classes,
            global_pool=global_pool,
            drop_rate=drop_rate,
        )


default_cfgs = registry.default_cfgs(VARIANTS)
registry.register(SlideCSwin, VARIANTS, __name__)
