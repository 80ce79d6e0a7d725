# SPDX-License-Identifier: Apache-2.0
"""Slide-NAT: a Neighborhood Attention Transformer that slides in its first stage (Pan et al., 2023).

With dilations the host is DiNAT (Hassani and Shi, 2022), whose blocks look near and far in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from timm.layers import LayerScale
from torch import Tensor, nn
from typing_extensions import Unpack

from slideformer.layers.conv_stem import ConvStem
from slideformer.layers.mlp import Mlp
from slideformer.layers.patch import ConvMerging
from slideformer.models import registry
from slideformer.models.plan import Plan, SharedArguments
from slideformer.models.pyramid import Block, Pyramid, make_stages


@dataclass(frozen=True)
class Config:
    """One variant: the arguments of `SlideNat` that distinguish it from its siblings."""

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    drop_path_rate: float
    mlp_ratio: float = 3.0
    layer_scale: float = 0.0
    dilations: tuple[tuple[int, ...], ...] = ()
    img_size: int = 224
    patch_size: int = 4


MINI = Config(embed_dim=64, depths=(3, 4, 6, 5), num_heads=(2, 4, 8, 16), drop_path_rate=0.2)
TINY = replace(MINI, depths=(3, 4, 18, 5))
SMALL = replace(
    TINY, embed_dim=96, num_heads=(3, 6, 12, 24), drop_path_rate=0.3, mlp_ratio=2.0, layer_scale=1e-5
)
BASE = replace(SMALL, embed_dim=128, num_heads=(4, 8, 16, 32), drop_path_rate=0.5)
# With seven taps a side so far apart, a window spans the map of its stage in an image of 224 pixels.
DILATIONS = ((1, 8), (1, 4), (1, 2), (1,))
# Layer scale is the base DiNAT's alone.
DILATED = replace(SMALL, layer_scale=0.0, dilations=DILATIONS)
VARIANTS = {
    "slide_nat_mini": MINI,
    "slide_nat_tiny": TINY,
    "slide_nat_small": SMALL,
    "slide_nat_base": BASE,
    "slide_dinat_mini": replace(MINI, dilations=DILATIONS),
    "slide_dinat_tiny": replace(TINY, dilations=DILATIONS),
    "slide_dinat_small": DILATED,
    "slide_dinat_base": replace(BASE, dilations=DILATIONS),
    "slide_dinat_large": replace(DILATED, embed_dim=192, num_heads=(6, 12, 24, 48), drop_path_rate=0.35),
}


class ScaledBlock(Block):
    """A block whose two branches are multiplied by a learned number a channel (Touvron et al., 2021).

    Args:
        dim: channels C.
        attention: maps ``(B, H, W, C)`` to ``(B, H, W, C)``.
        mlp: does so, too.
        norm_layer: builds the norms from their number of channels.
        drop_path: probability that an image skips either of the two in training.
        layer_scale: initial value of the learned numbers.

    Shape: ``(B, H, W, C) -> (B, H, W, C)``.
    """

    def __init__(
        self,
        dim: int,
        attention: nn.Module,
        mlp: nn.Module,
        norm_layer: Callable[[int], nn.Module],
        drop_path: float,
        *,
        layer_scale: float,
    ) -> None:
        super().__init__(dim, attention, mlp, norm_layer, drop_path)
        self.scale1, self.scale2 = LayerScale(dim, layer_scale), LayerScale(dim, layer_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Transform a map: ``(B, H, W, C) -> (B, H, W, C)``."""
        x = self.drop_path(x, lambda x: self.scale1(self.attention(self.norm1(x))), x)
        return self.drop_path(x, lambda x: self.scale2(self.mlp(self.norm2(x))), x)


class SlideNat(Pyramid):
    """NAT (Hassani et al., 2023) with slide attention in some stages, as timm builds its models.

    By default only the first stage slides: the paper's multiply-adds of Slide-NAT are those of such a model.
    A block that slides has the dilation of the block that it replaces.

    Args:
        patch_size: pixels a side that the stem makes one position of, a power of two.
        embed_dim: channels of the first stage; every further stage doubles them.
        depths: blocks of each stage.
        num_heads: heads of each stage.
        neighborhood_size: side of the neighbourhood in the stages that do not slide.
        mlp_ratio: hidden channels of the MLP, in multiples of its input.
        layer_scale: initial factor of the branches of blocks; 0 for no factors.
        dilations: of each stage, the spacings of the taps of its blocks, in positions, which the blocks take
            in turn: with (1, 8) every second block has 8. ``()`` for 1 everywhere.
        shared: see `SharedArguments`.

    Shape: ``(B, in_chans, height, width) -> (B, num_classes)``.

    Raises:
        ValueError: depths, heads, dilations or ``slide_stages`` do not fit together.
    """

    def __init__(
        self,
        *,
        patch_size: int = 4,
        embed_dim: int = 64,
        depths: Sequence[int] = (3, 4, 6, 5),
        num_heads: Sequence[int] = (2, 4, 8, 16),
        neighborhood_size: int = 7,
        mlp_ratio: float = 3.0,
        layer_scale: float = 0.0,
        dilations: Sequence[Sequence[int]] = (),
        **shared: Unpack[SharedArguments],
    ) -> None:
        check_dilations(dilations)
        per_stage = {"dilations": dilations} if dilations else {}
        plan = Plan({"slide_stages": (0,), **shared}, embed_dim, depths, num_heads, patch_size, per_stage)
        block_type: Callable[..., Block] = (
            partial(ScaledBlock, layer_scale=layer_scale) if layer_scale else Block
        )

        def make_block(stage: int, block: int) -> Block:
            dim = plan.dims[stage]
            turns = dilations[stage] if dilations else (1,)
            dilation = turns[block % len(turns)]
            attention = (
                plan.local_attention(stage, dilation)
                if stage in plan.slide_stages
                else plan.neighborhood_attention(stage, neighborhood_size, dilation)
            )
            mlp = Mlp(dim, int(dim * mlp_ratio), drop=plan.drop)
            return block_type(dim, attention, mlp, plan.norm, plan.drop_path(stage, block))

        def make_merging(stage: int) -> ConvMerging:
            dim, out_dim = plan.dims[stage - 1], plan.dims[stage]
            return ConvMerging(dim, out_dim, kernel_size=3, bias=False, norm_layer=plan.norm)

        super().__init__(
            plan,
            patch_embed=ConvStem(plan.options["in_chans"], embed_dim, patch_size, norm_layer=plan.norm),
            stages=make_stages(plan, make_block, make_merging),
            norm=plan.norm(plan.dims[-1]),
        )


def check_dilations(dilations: Sequence[Sequence[int]]) -> None:
    """Check that there are numbers for every stage, which its blocks can take in turn."""
    lists = isinstance(dilations, list | tuple)
    if not lists or not all(isinstance(turns, list | tuple) and turns for turns in dilations):
        raise ValueError(
            "dilations must be a tuple of numbers for each stage, which its blocks take in turn, "
            f"got {dilations!r}; DiNAT's are {DILATIONS}, and () is 1 everywhere"
        )


default_cfgs = registry.default_cfgs(VARIANTS, first_conv="patch_embed.proj.0")
registry.register(SlideNat, VARIANTS, __name__)
