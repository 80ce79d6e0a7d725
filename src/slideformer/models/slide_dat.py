# SPDX-License-Identifier: Apache-2.0
"""Slide-DAT: a DAT++ whose local attention slides (Pan et al., 2023, argue for it, without one)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from timm.layers import get_norm_layer
from torch import Tensor, nn

from slideformer.layers.channels_first import channels_first
from slideformer.layers.deformable_attention import DeformableAttention
from slideformer.layers.depthwise_mlp import DepthwiseMlp
from slideformer.layers.neighborhood import NeighborhoodAttention
from slideformer.layers.patch import ConvMerging, PatchEmbed
from slideformer.layers.slide_attention import SlideAttention
from slideformer.models import registry
from slideformer.models.pyramid import AttentionOptions, Block, Pyramid, Stage, check_stages, drop_path_rates


@dataclass(frozen=True)
class Config:
    """One variant: the arguments of `SlideDat` that tell it from its siblings."""

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
    """A block with a local perception unit before it: a 3 x 3 depthwise convolution, added to what came in.

    Args:
        dim: channels C.
        attention: maps ``(B, H, W, C)`` to ``(B, H, W, C)``, as the perceptron does.
        mlp: the perceptron.
        norms: before the attention, and before the perceptron.
        drop_path: probability that an image skips either of the two in training.

    Shape: ``(B, H, W, C) -> (B, H, W, C)``.
    """

    def __init__(
        self,
        dim: int,
        attention: nn.Module,
        mlp: nn.Module,
        norms: tuple[nn.Module, nn.Module],
        drop_path: float,
    ) -> None:
        super().__init__(attention, mlp, norms, drop_path)
        self.perception = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform a map: ``(B, H, W, C) -> (B, H, W, C)``."""
        return super().forward(x + self.perception(channels_first(x)).permute(0, 2, 3, 1))


class SlideDat(Pyramid):
    """DAT++ (Xia et al., 2023) with slide attention in some stages, as timm builds its models.

    In each stage but the last every second block, from the first on, has local attention: neighborhood
    attention in the plain host, slide attention in a stage that slides. All others are deformable.

    Args:
        img_size: side, or height and width, of the images that the position biases of deformable attention
            are made for; the model takes images of every size at every call.
        in_chans: channels of an image.
        num_classes: classes; 0 for no classifier.
        global_pool: timm's name of the pooling before the classifier; ``""`` for none.
        embed_dim: channels of the first stage; every further stage doubles them.
        depths: blocks of each stage.
        num_heads: heads of each stage.
        groups: groups of each stage, whose offsets differ.
        strides: positions a side for one deformed point, of each stage.
        offset_kernel_sizes: side of the offsets' convolution, of each stage.
        neighborhood_size: side of the neighbourhood where local attention does not slide.
        kernel_size: side of the neighbourhood where it does.
        slide_stages: the stages, from 0, whose local attention slides; ``()`` is the plain DAT++.
        deform: whether slide attention has a learned shift.
        mlp_ratio: hidden channels of the perceptrons, in multiples of their input.
        qkv_bias: whether the projections to query, key and value have a bias.
        drop_rate: dropout before the classifier.
        proj_drop_rate: dropout after projections and perceptrons.
        attn_drop_rate: dropout of attention weights.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0 at the first.
        norm_layer: normalisation, by timm's name or as a class.
        backend: of the slide attention operator, which neighborhood attention uses as well.

    Shape: ``(B, in_chans, height, width) -> (B, num_classes)``.

    Raises:
        ValueError: what is given for each stage, or ``slide_stages``, does not fit together, or the last
            stage is to slide, which has no local attention.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        embed_dim: int = 64,
        depths: Sequence[int] = (2, 4, 18, 2),
        num_heads: Sequence[int] = (2, 4, 8, 16),
        groups: Sequence[int] = (1, 2, 4, 8),
        strides: Sequence[int] = (8, 4, 2, 1),
        offset_kernel_sizes: Sequence[int] = (9, 7, 5, 3),
        neighborhood_size: int = 7,
        kernel_size: int = 3,
        slide_stages: Sequence[int] = (0, 1, 2),
        deform: bool = True,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.2,
        norm_layer: str | type[nn.Module] = nn.LayerNorm,
        backend: str = "auto",
    ) -> None:
        per_stage = {
            "num_heads": num_heads,
            "groups": groups,
            "strides": strides,
            "offset_kernel_sizes": offset_kernel_sizes,
        }
        check_stages(depths, per_stage, slide_stages, last_stays="the last stage has no local attention")
        last, patch_size = len(depths) - 1, Config.patch_size
        norm = get_norm_layer(norm_layer)
        shared = AttentionOptions(qkv_bias=qkv_bias, attn_drop=attn_drop_rate, proj_drop=proj_drop_rate)
        drop_paths = drop_path_rates(drop_path_rate, depths)
        dims = [embed_dim * 2**stage for stage in range(len(depths))]
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size

        def make_deformable(stage: int) -> DeformableAttention:
            pixels = patch_size * 2**stage
            return DeformableAttention(
                dims[stage],
                num_heads[stage],
                groups[stage],
                stride=strides[stage],
                kernel_size=offset_kernel_sizes[stage],
                map_size=(-(-height // pixels), -(-width // pixels)),
                **shared,
            )

        def make_attention(stage: int, block: int) -> nn.Module:
            dim, heads = dims[stage], num_heads[stage]
            if stage == last or block % 2:
                return make_deformable(stage)
            if stage in slide_stages:
                return SlideAttention(dim, heads, kernel_size, deform=deform, backend=backend, **shared)
            return NeighborhoodAttention(dim, heads, neighborhood_size, backend=backend, **shared)

        def make_block(stage: int, block: int) -> PerceivingBlock:
            dim = dims[stage]
            mlp = DepthwiseMlp(dim, int(dim * mlp_ratio), residual=True, drop=proj_drop_rate)
            norms = norm(dim), norm(dim)
            attention, drop_path = make_attention(stage, block), drop_paths[stage][block]
            return PerceivingBlock(dim, attention, mlp, norms, drop_path)

        def make_merging(dim: int, out_dim: int, *, bias: bool) -> ConvMerging:
            return ConvMerging(dim, out_dim, kernel_size=3, bias=bias, norm_layer=norm)

        def make_stage(stage: int) -> Stage:
            merging = make_merging(dims[stage - 1], dims[stage], bias=False) if stage else nn.Identity()
            return Stage(merging, [make_block(stage, block) for block in range(depths[stage])])

        super().__init__(
            patch_embed=nn.Sequential(
                PatchEmbed(in_chans, embed_dim // 2, patch_size // 2, kernel_size=3, norm_layer=norm),
                nn.GELU(),
                make_merging(embed_dim // 2, embed_dim, bias=True),
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


default_cfgs = registry.default_cfgs(VARIANTS, first_conv="patch_embed.0.proj")
registry.register(SlideDat, VARIANTS, __name__)
