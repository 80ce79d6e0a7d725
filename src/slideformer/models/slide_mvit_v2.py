# SPDX-License-Identifier: Apache-2.0
"""Slide-MViTv2: an MViTv2 that slides where its maps are large and keep their size.

Pan et al., 2023, argue against pooling keys and values but publish no such model; the rule which blocks
slide, those of the first two stages that change neither the map nor its channels, is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from timm.layers import DropPath, LayerNorm, get_norm_layer
from timm.models import register_notrace_module
from torch import Tensor, nn

from slideformer.layers.channels_first import channels_first
from slideformer.layers.mlp import Mlp
from slideformer.layers.patch import PatchEmbed, pad_to_multiple
from slideformer.layers.pooling_attention import PoolingAttention
from slideformer.layers.slide_attention import SlideAttention
from slideformer.models import registry
from slideformer.models.pyramid import AttentionOptions, Block, Pyramid, Stage, check_stages, drop_path_rates


@dataclass(frozen=True)
class Config:
    """One variant: the arguments of `SlideMvitV2` that tell it from its siblings."""

    depths: tuple[int, ...]
    drop_path_rate: float = 0.1
    img_size: int = 224
    patch_size: int = 4


TINY = Config(depths=(1, 2, 5, 2))
VARIANTS = {"slide_mvit_v2_tiny": TINY, "slide_mvit_v2_small": replace(TINY, depths=(1, 2, 11, 2))}


# It looks at the size of its map, which torch.fx cannot follow.
@register_notrace_module
class PoolingBlock(nn.Module):
    """A block that halves the side of the map and widens it, in its attention.

    What came in is added after the same two changes: a projection, of the normalised map, and a maximum.

    Args:
        attention: maps ``(B, H, W, C)`` to ``(B, ceil(H / 2), ceil(W / 2), C')``.
        mlp: the perceptron, on C' channels.
        norms: before the attention, and before the perceptron.
        shortcut: projects C channels to C'.
        drop_path: probability that an image skips either of the two in training.

    Shape: ``(B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), C')``.
    """

    def __init__(
        self,
        attention: nn.Module,
        mlp: nn.Module,
        norms: tuple[nn.Module, nn.Module],
        shortcut: nn.Module,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = norms
        self.attention = attention
        self.mlp = mlp
        self.shortcut = shortcut
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Transform a map: ``(B, H, W, C) -> (B, H', W', C')``."""
        x = self.norm1(x)
        # Padded by what is never the maximum, so that an exported program knows the size as half.
        shortcut = pad_to_multiple(self.shortcut(x), 2, value=-torch.inf)
        shortcut = self.pool(channels_first(shortcut)).permute(0, 2, 3, 1)
        x = shortcut + self.drop_path(self.attention(x))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class SlideMvitV2(Pyramid):
    """MViTv2 (Li et al., 2022) with slide attention in some stages, as timm builds its models.

    The first block of each stage but the first pools its map to half the side, and never slides.

    Args:
        img_size: side, or height and width, of the images that the relative positions are made for; the
            model takes images of every size at every call and interpolates them.
        in_chans: channels of an image.
        num_classes: classes; 0 for no classifier.
        global_pool: timm's name of the pooling before the classifier; ``""`` for none.
        patch_size: pixels from one patch to the next; a patch is ``2 * patch_size - 1`` wide.
        embed_dim: channels of the first stage; every further stage doubles them.
        depths: blocks of each stage.
        num_heads: heads of each stage.
        key_strides: positions a side that one key stands for, of each stage, on its map before pooling in
            the first block and after it in the others.
        kernel_size: side of the neighbourhood in the blocks that slide.
        slide_stages: the stages, from 0, whose blocks that do not pool are slide attention; ``()`` is the
            plain MViTv2.
        deform: whether slide attention has a learned shift.
        mlp_ratio: hidden channels of the perceptrons, in multiples of their input.
        qkv_bias: whether the projections to query, key and value have a bias.
        drop_rate: dropout before the classifier.
        proj_drop_rate: dropout after projections and perceptrons.
        attn_drop_rate: dropout of attention weights.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0 at the first.
        norm_layer: normalisation, by timm's name or as a class; that of timm has the epsilon of 1e-6
            that the authors use.
        backend: of the slide attention operator.

    Shape: ``(B, in_chans, height, width) -> (B, num_classes)``.

    Raises:
        ValueError: what is given for each stage, or ``slide_stages``, does not fit together.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        patch_size: int = 4,
        embed_dim: int = 96,
        depths: Sequence[int] = (1, 2, 5, 2),
        num_heads: Sequence[int] = (1, 2, 4, 8),
        key_strides: Sequence[int] = (4, 2, 1, 1),
        kernel_size: int = 3,
        slide_stages: Sequence[int] = (0, 1),
        deform: bool = True,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        norm_layer: str | type[nn.Module] = LayerNorm,
        backend: str = "auto",
    ) -> None:
        check_stages(depths, {"num_heads": num_heads, "key_strides": key_strides}, slide_stages)
        norm = get_norm_layer(norm_layer)
        shared = AttentionOptions(qkv_bias=qkv_bias, attn_drop=attn_drop_rate, proj_drop=proj_drop_rate)
        drop_paths = drop_path_rates(drop_path_rate, depths)
        dims = [embed_dim * 2**stage for stage in range(len(depths))]
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size

        def make_pooling(stage: int, dim: int, stride: int) -> PoolingAttention:
            pixels = patch_size * 2**stage // stride
            return PoolingAttention(
                dim,
                num_heads[stage],
                out_dim=dims[stage],
                query_stride=stride,
                key_stride=key_strides[stage],
                map_size=(-(-height // pixels), -(-width // pixels)),
                norm_layer=norm,
                **shared,
            )

        def make_block(stage: int, block: int) -> nn.Module:
            dim, heads, drop_path = dims[stage], num_heads[stage], drop_paths[stage][block]
            mlp = Mlp(dim, int(dim * mlp_ratio), drop=proj_drop_rate)
            if stage and not block:
                before = dims[stage - 1]
                pooling, shortcut = make_pooling(stage, before, stride=2), nn.Linear(before, dim)
                return PoolingBlock(pooling, mlp, (norm(before), norm(dim)), shortcut, drop_path)
            attention = (
                SlideAttention(dim, heads, kernel_size, deform=deform, backend=backend, **shared)
                if stage in slide_stages
                else make_pooling(stage, dim, stride=1)
            )
            return Block(attention, mlp, (norm(dim), norm(dim)), drop_path)

        def make_stage(stage: int) -> Stage:
            return Stage(nn.Identity(), [make_block(stage, block) for block in range(depths[stage])])

        super().__init__(
            patch_embed=PatchEmbed(
                in_chans, embed_dim, patch_size, kernel_size=2 * patch_size - 1, norm_layer=nn.Identity
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

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay leaves alone, beside those of one dimension."""
        positions = ("relative_position_rows", "relative_position_columns")
        return super().no_weight_decay() | self.parameters_named(*positions)


default_cfgs = registry.default_cfgs(VARIANTS)
registry.register(SlideMvitV2, VARIANTS, __name__)
