# SPDX-License-Identifier: Apache-2.0
"""Slide-Swin: a Swin Transformer whose first stages attend by sliding (Pan et al., 2023, section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from timm.layers import get_norm_layer
from torch import nn

from slideformer.layers.mlp import Mlp
from slideformer.layers.patch import PatchEmbed, PatchMerging
from slideformer.layers.slide_attention import SlideAttention
from slideformer.layers.window_attention import WindowAttention
from slideformer.models import registry
from slideformer.models.pyramid import AttentionOptions, Block, Pyramid, Stage, check_stages, drop_path_rates


@dataclass(frozen=True)
class Config:
    """One variant: the arguments of `SlideSwin` that tell it from its siblings."""

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
        img_size: accepted as by timm's models; the model takes images of every size at every call.
        in_chans: channels of an image.
        num_classes: classes; 0 for no classifier.
        global_pool: timm's name of the pooling before the classifier; ``""`` for none.
        patch_size: side of a patch, in pixels.
        embed_dim: channels of the first stage; every further stage doubles them.
        depths: blocks of each stage.
        num_heads: heads of each stage.
        window_size: side of a window in the stages that do not slide, of all stages or of each.
        kernel_size: side of the neighbourhood in the stages that slide.
        slide_stages: the stages, from 0, whose blocks are slide attention; ``()`` is the plain Swin.
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
        ValueError: depths, heads, windows or ``slide_stages`` do not fit together.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] | None = None,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        patch_size: int = 4,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int | Sequence[int] = 7,
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
        own_windows = {} if isinstance(window_size, int) else {"window_size": window_size}
        check_stages(depths, {"num_heads": num_heads, **own_windows}, slide_stages)
        windows = [window_size] * len(depths) if isinstance(window_size, int) else window_size
        norm = get_norm_layer(norm_layer)
        shared = AttentionOptions(qkv_bias=qkv_bias, attn_drop=attn_drop_rate, proj_drop=proj_drop_rate)
        drop_paths = drop_path_rates(drop_path_rate, depths)
        dims = [embed_dim * 2**stage for stage in range(len(depths))]

        def make_attention(stage: int, block: int) -> nn.Module:
            dim, heads = dims[stage], num_heads[stage]
            if stage in slide_stages:
                return SlideAttention(dim, heads, kernel_size, deform=deform, backend=backend, **shared)
            # Every second block looks across the borders of the windows before it.
            return WindowAttention(dim, heads, windows[stage], shift=block % 2 == 1, **shared)

        def make_block(stage: int, block: int) -> Block:
            dim = dims[stage]
            mlp = Mlp(dim, int(dim * mlp_ratio), drop=proj_drop_rate)
            norms = norm(dim), norm(dim)
            return Block(make_attention(stage, block), mlp, norms, drop_paths[stage][block])

        def make_stage(stage: int) -> Stage:
            merging = PatchMerging(dims[stage - 1], dims[stage], norm_layer=norm) if stage else nn.Identity()
            return Stage(merging, [make_block(stage, block) for block in range(depths[stage])])

        super().__init__(
            patch_embed=PatchEmbed(in_chans, embed_dim, patch_size, norm_layer=norm),
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
registry.register(SlideSwin, VARIANTS, __name__)
