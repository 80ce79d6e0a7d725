# SPDX-License-Identifier: Apache-2.0
"""Slide-NAT: a Neighborhood Attention Transformer that slides in its first stage (Pan et al., 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from timm.layers import LayerScale, get_norm_layer
from torch import Tensor, nn

from slideformer.layers.conv_stem import ConvStem
from slideformer.layers.mlp import Mlp
from slideformer.layers.neighborhood import NeighborhoodAttention
from slideformer.layers.patch import ConvMerging
from slideformer.layers.slide_attention import SlideAttention
from slideformer.models import registry
from slideformer.models.pyramid import AttentionOptions, Block, Pyramid, Stage, check_stages, drop_path_rates


@dataclass(frozen=True)
class Config:
    """One variant: the arguments of `SlideNat` that tell it from its siblings."""

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    drop_path_rate: float
    mlp_ratio: float = 3.0
    layer_scale: float = 0.0
    img_size: int = 224
    patch_size: int = 4


MINI = Config(embed_dim=64, depths=(3, 4, 6, 5), num_heads=(2, 4, 8, 16), drop_path_rate=0.2)
TINY = replace(MINI, depths=(3, 4, 18, 5))
VARIANTS = {
    "slide_nat_mini": MINI,
    "slide_nat_tiny": TINY,
    "slide_nat_small": replace(
        TINY, embed_dim=96, num_heads=(3, 6, 12, 24), drop_path_rate=0.3, mlp_ratio=2.0, layer_scale=1e-5
    ),
}


class ScaledBlock(Block):
    """A block that multiplies what it adds by a learned number a channel (layer scale: Touvron et al., 2021).

    Args:
        attention: maps ``(B, H, W, C)`` to ``(B, H, W, C)``, as the perceptron does.
        mlp: the perceptron.
        norms: before the attention, and before the perceptron.
        drop_path: probability that an image skips either of the two in training.
        dim: channels C.
        layer_scale: what the numbers start at.

    Shape: ``(B, H, W, C) -> (B, H, W, C)``.
    """

    def __init__(
        self,
        attention: nn.Module,
        mlp: nn.Module,
        norms: tuple[nn.Module, nn.Module],
        drop_path: float,
        *,
        dim: int,
        layer_scale: float,
    ) -> None:
        super().__init__(attention, mlp, norms, drop_path)
        self.scale1, self.scale2 = LayerScale(dim, layer_scale), LayerScale(dim, layer_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Transform a map: ``(B, H, W, C) -> (B, H, W, C)``."""
        x = x + self.drop_path(self.scale1(self.attention(self.norm1(x))))
        return x + self.drop_path(self.scale2(self.mlp(self.norm2(x))))


class SlideNat(Pyramid):
    """NAT (Hassani et al., 2023) with slide attention in some stages, as timm builds its models.

    The first stage alone slides: that many multiply-adds the paper reports of Slide-NAT.

    Args:
        img_size: accepted as by timm's models; the model takes images of every size at every call.
        in_chans: channels of an image.
        num_classes: classes; 0 for no classifier.
        global_pool: timm's name of the pooling before the classifier; ``""`` for none.
        patch_size: pixels a side that the stem makes one position of, a power of two.
        embed_dim: channels of the first stage; every further stage doubles them.
        depths: blocks of each stage.
        num_heads: heads of each stage.
        neighborhood_size: side of the neighbourhood in the stages that do not slide.
        kernel_size: side of the neighbourhood in the stages that slide.
        slide_stages: the stages, from 0, whose blocks are slide attention; ``()`` is the plain NAT.
        deform: whether slide attention has a learned shift.
        mlp_ratio: hidden channels of the perceptron, in multiples of its input.
        layer_scale: start of the factors of what blocks add; 0 for no factors.
        qkv_bias: whether the projections to query, key and value have a bias.
        drop_rate: dropout before the classifier.
        proj_drop_rate: dropout after projections and perceptrons.
        attn_drop_rate: dropout of attention weights.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0 at the first.
        norm_layer: normalisation, by timm's name or as a class.
        backend: of the slide attention operator, which neighborhood attention uses as well.

    Shape: ``(B, in_chans, height, width) -> (B, num_classes)``.

    Raises:
        ValueError: depths, heads or ``slide_stages`` do not fit together.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] | None = None,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        patch_size: int = 4,
        embed_dim: int = 64,
        depths: Sequence[int] = (3, 4, 6, 5),
        num_heads: Sequence[int] = (2, 4, 8, 16),
        neighborhood_size: int = 7,
        kernel_size: int = 3,
        slide_stages: Sequence[int] = (0,),
        deform: bool = True,
        mlp_ratio: float = 3.0,
        layer_scale: float = 0.0,
        qkv_bias: bool = True,
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        norm_layer: str | type[nn.Module] = nn.LayerNorm,
        backend: str = "auto",
    ) -> None:
        check_stages(depths, {"num_heads": num_heads}, slide_stages)
        norm = get_norm_layer(norm_layer)
        shared = AttentionOptions(qkv_bias=qkv_bias, attn_drop=attn_drop_rate, proj_drop=proj_drop_rate)
        drop_paths = drop_path_rates(drop_path_rate, depths)
        dims = [embed_dim * 2**stage for stage in range(len(depths))]

        def make_attention(stage: int) -> nn.Module:
            dim, heads = dims[stage], num_heads[stage]
            if stage in slide_stages:
                return SlideAttention(dim, heads, kernel_size, deform=deform, backend=backend, **shared)
            return NeighborhoodAttention(dim, heads, neighborhood_size, backend=backend, **shared)

        def make_block(stage: int, block: int) -> Block:
            dim, drop_path = dims[stage], drop_paths[stage][block]
            attention, norms = make_attention(stage), (norm(dim), norm(dim))
            mlp = Mlp(dim, int(dim * mlp_ratio), drop=proj_drop_rate)
            if not layer_scale:
                return Block(attention, mlp, norms, drop_path)
            return ScaledBlock(attention, mlp, norms, drop_path, dim=dim, layer_scale=layer_scale)

        def make_merging(stage: int) -> nn.Module:
            return ConvMerging(dims[stage - 1], dims[stage], kernel_size=3, bias=False, norm_layer=norm)

        def make_stage(stage: int) -> Stage:
            merging = make_merging(stage) if stage else nn.Identity()
            return Stage(merging, [make_block(stage, block) for block in range(depths[stage])])

        super().__init__(
            patch_embed=ConvStem(in_chans, embed_dim, patch_size, norm_layer=norm),
            stages=[make_stage(stage) for stage in range(len(depths))],
            norm=norm(dims[-1]),
            dims=dims,
            patch_size=patch_size,
            in_chans=in_chans,
            num_classes=num_classes,
            global_pool=global_pool,
            drop_rate=drop_rate,
        )


default_cfgs = registry.default_cfgs(VARIANTS, first_conv="patch_embed.proj.0")
registry.register(SlideNat, VARIANTS, __name__)
