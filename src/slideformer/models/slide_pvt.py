# SPDX-License-Identifier: Apache-2.0
"""Slide-PVT: a Pyramid Vision Transformer whose first stages slide (Pan et al., 2023, section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from timm.layers import LayerNorm
from torch import Tensor, nn
from typing_extensions import Unpack

from slideformer.layers.mlp import Mlp
from slideformer.layers.patch import ConvMerging, PatchEmbed
from slideformer.layers.position_embedding import PositionEmbedding
from slideformer.layers.spatial_reduction import SpatialReductionAttention
from slideformer.models import registry
from slideformer.models.plan import Plan, SharedArguments
from slideformer.models.pyramid import Block, Pyramid, Stage


@dataclass(frozen=True)
class Config:
    """One variant: the arguments of `SlidePvt` that distinguish it from its siblings."""

    depths: tuple[int, ...]
    drop_path_rate: float
    img_size: int = 224
    patch_size: int = 4


TINY = Config(depths=(2, 2, 2, 2), drop_path_rate=0.1)
VARIANTS = {
    "slide_pvt_tiny": TINY,
    "slide_pvt_small": replace(TINY, depths=(3, 4, 6, 3)),
    "slide_pvt_medium": replace(TINY, depths=(3, 4, 18, 3), drop_path_rate=0.3),
}


class TokenStage(Stage):
    """A stage on the positions of a map and, before them, one class token.

    The blocks see a map of one row, so their attention must not depend on where a position is.

    Args:
        downsample: applied before the blocks, from the map of the previous stage to this stage's.
        blocks: each maps ``(B, 1, 1 + N, C')`` to the same shape.
        dim: channels C' of this stage.

    Shape: ``(B, H, W, C) -> (B, 1 + N, C')``, N = H' * W' positions.
    """

    def __init__(self, downsample: nn.Module, blocks: Sequence[nn.Module], dim: int) -> None:
        super().__init__(downsample, blocks)
        self.class_token = nn.Parameter(torch.empty(1, 1, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the parameter of this stage itself."""
        nn.init.trunc_normal_(self.class_token, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Transform a map and the token: ``(B, H, W, C) -> (B, 1 + N, C')``."""
        x = self.downsample(x).flatten(1, 2)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1)
        return self.transform(x.unsqueeze(1)).squeeze(1)


class TokenHead(nn.Module):
    """Take the class token, or the mean of the positions, and classify.

    Args:
        dim: channels C.
        num_classes: classes; 0 for no classifier.
        pool: ``"token"``, ``"avg"`` for the mean of the positions, ``""`` for no pooling.
        drop: dropout before the classifier, a probability.

    Shape: ``(B, 1 + N, C) -> (B, num_classes)``.

    Raises:
        ValueError: ``pool`` is none of these.
    """

    def __init__(self, dim: int, num_classes: int, pool: str, drop: float) -> None:
        super().__init__()
        if pool not in ("token", "avg", ""):
            raise ValueError(f"global_pool must be 'token', 'avg' or '', got {pool!r}")
        self.num_features = dim
        self.pool = pool
        self.drop = nn.Dropout(drop)
        self.fc = nn.Linear(dim, num_classes) if num_classes else nn.Identity()

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool and classify: ``(B, 1 + N, C) -> (B, num_classes)``, or ``(B, C)`` before the classifier."""
        if self.pool:
            x = x[:, 0] if self.pool == "token" else x[:, 1:].mean(1)
        x = self.drop(x)
        return x if pre_logits else self.fc(x)


class SlidePvt(Pyramid):
    """PVT (Wang et al., 2021) with slide attention in some stages, as timm builds its models.

    Each stage has a learned position embedding, and the last one a class token, which is what is classified:
    `forward_features` gives ``(B, 1 + N, C)``, the token first, as timm's models with a class token do.

    ``global_pool`` is ``"token"`` (the default), ``"avg"`` for the mean of the positions or ``""`` for none.
    By default ``norm_layer``, of the blocks and the last map, is timm's layer norm, which has the epsilon of
    1e-6 that the authors use there.

    A program by ``torch.export`` with dynamic sizes holds for images from 49 pixels a side, that of the plain
    host from 61: PyTorch takes no dynamic axis whose size may be 1, and keys are fewer than positions.

    Args:
        patch_size: side of a patch, in pixels.
        embed_dims: channels of each stage.
        depths: blocks of each stage.
        num_heads: heads of each stage.
        reductions: positions a side that one key stands for, of each stage, where it does not slide.
        mlp_ratios: hidden channels of the MLPs, in multiples of their input, of each stage.
        shared: see `SharedArguments`.

    Shape: ``(B, in_chans, height, width) -> (B, num_classes)``.

    Raises:
        ValueError: arguments of the stages or ``slide_stages`` do not fit together, or the last stage slides
            or reduces, whose class token has no place on the map.
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
        plan = Plan(
            {"global_pool": "token", "norm_layer": LayerNorm, **shared},
            embed_dims,
            depths,
            num_heads,
            patch_size,
            {"embed_dims": embed_dims, "reductions": reductions, "mlp_ratios": mlp_ratios},
            # Its class token has no place on the map, and attention that slides or reduces needs one.
            last_stays="the last stage has the class token",
        )
        if reductions[-1] != 1:
            raise ValueError(
                f"the last of reductions must be 1, for the class token's sake, got {tuple(reductions)}"
            )

        def make_block(stage: int, block: int) -> Block:
            dim = embed_dims[stage]
            mlp = Mlp(dim, int(dim * mlp_ratios[stage]), drop=plan.drop)
            attention = (
                plan.local_attention(stage)
                if stage in plan.slide_stages
                else SpatialReductionAttention(dim, num_heads[stage], reductions[stage], **plan.attention)
            )
            return Block(dim, attention, mlp, plan.norm, plan.drop_path(stage, block))

        def make_stage(stage: int) -> Stage:
            dim = embed_dims[stage]
            position = PositionEmbedding(dim, plan.map_size(stage))
            merging = ConvMerging(embed_dims[stage - 1], dim, kernel_size=2) if stage else nn.Identity()
            downsample, blocks = nn.Sequential(merging, position), plan.blocks(stage, make_block)
            last = stage == plan.stages[-1]
            return TokenStage(downsample, blocks, dim) if last else Stage(downsample, blocks)

        super().__init__(
            plan,
            patch_embed=PatchEmbed(plan.options["in_chans"], embed_dims[0], patch_size),
            stages=[make_stage(stage) for stage in plan.stages],
            norm=plan.norm(embed_dims[-1]),
        )

    def as_map(self, x: Tensor, before: Tensor) -> Tensor:
        """A stage's output for the map ``before``, without a class token: ``(B, H', W', C')``."""
        if x.ndim == 4:
            return x
        # Only the first stage keeps the size of the stem's map.
        stride = 2 if len(self.stages) > 1 else 1
        height, width = ((size + stride - 1) // stride for size in before.shape[1:3])
        return x[:, 1:].unflatten(1, (height, width))

    def make_head(self, num_classes: int, global_pool: str) -> nn.Module:
        """Pooling and classifier, which is named ``fc``."""
        if isinstance(self.stages[-1], TokenStage):
            return TokenHead(self.num_features, num_classes, global_pool, self.drop_rate)
        return super().make_head(num_classes, global_pool)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters without weight decay, in addition to those of one dimension."""
        return super().no_weight_decay() | self.parameters_named("class_token")


default_cfgs = registry.default_cfgs(VARIANTS)
registry.register(SlidePvt, VARIANTS, __name__)
