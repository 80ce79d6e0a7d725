# SPDX-License-Identifier: Apache-2.0
"""Slide-Swin: a Swin Transformer whose first stages attend by sliding (Pan et al., 2023, section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

from timm.layers import ClassifierHead, DropPath, get_norm_layer
from timm.models import checkpoint_seq
from torch import Tensor, nn

from slideformer.layers.mlp import Mlp
from slideformer.layers.patch import PatchEmbed, PatchMerging
from slideformer.layers.slide_attention import SlideAttention
from slideformer.layers.window_attention import WindowAttention
from slideformer.models import registry
from slideformer.models.initialise import init_linear


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


class Shared(TypedDict):
    """Options that both kinds of attention have."""

    qkv_bias: bool
    attn_drop: float
    proj_drop: float


class Block(nn.Module):
    """Attention, then a perceptron, each normalised before and added to what came in.

    Shape: ``(B, H, W, C) -> (B, H, W, C)``.
    """

    def __init__(
        self, attention: nn.Module, mlp: nn.Module, norms: tuple[nn.Module, nn.Module], drop_path: float
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = norms
        self.attention = attention
        self.mlp = mlp
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Transform a map: ``(B, H, W, C) -> (B, H, W, C)``."""
        x = x + self.drop_path(self.attention(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Stage(nn.Module):
    """Blocks on maps of one size, after merging the patches of the stage before.

    Shape: ``(B, H, W, C) -> (B, H', W', C')``.
    """

    def __init__(self, downsample: nn.Module, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.Sequential(*blocks)
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """Transform a map: ``(B, H, W, C) -> (B, H', W', C')``."""
        x = self.downsample(x)
        return checkpoint_seq(self.blocks, x) if self.grad_checkpointing else self.blocks(x)


class SlideSwin(nn.Module):
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

    output_fmt = "NHWC"

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
        super().__init__()
        windows = [window_size] * len(depths) if isinstance(window_size, int) else list(window_size)
        check_stages(depths, num_heads, windows, slide_stages)
        norm = get_norm_layer(norm_layer)
        shared = Shared(qkv_bias=qkv_bias, attn_drop=attn_drop_rate, proj_drop=proj_drop_rate)

        def make_attention(stage: int, block: int, dim: int) -> nn.Module:
            heads, window = num_heads[stage], windows[stage]
            if stage in slide_stages:
                return SlideAttention(dim, heads, kernel_size, deform=deform, backend=backend, **shared)
            # Every second block looks across the borders of the windows before it.
            return WindowAttention(dim, heads, window, shift=block % 2 == 1, **shared)

        def make_block(stage: int, block: int, dim: int) -> Block:
            mlp = Mlp(dim, int(dim * mlp_ratio), drop=proj_drop_rate)
            drop_path = drop_path_rate * (sum(depths[:stage]) + block) / max(sum(depths) - 1, 1)
            return Block(make_attention(stage, block, dim), mlp, (norm(dim), norm(dim)), drop_path)

        dims = [embed_dim * 2**stage for stage in range(len(depths))]
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.num_features = dims[-1]
        self.patch_embed = PatchEmbed(in_chans, embed_dim, patch_size, norm_layer=norm)
        self.stages = nn.Sequential()
        for stage, dim in enumerate(dims):
            merging = PatchMerging(dims[stage - 1], dim, norm_layer=norm) if stage else nn.Identity()
            self.stages.append(Stage(merging, [make_block(stage, i, dim) for i in range(depths[stage])]))
        self.norm: nn.Module = norm(self.num_features)
        self.feature_info = registry.feature_info(dims, patch_size)
        self.reset_classifier(num_classes, global_pool)
        self.apply(init_linear)

    def forward(self, image: Tensor) -> Tensor:
        """Classify: ``(B, in_chans, height, width) -> (B, num_classes)``."""
        return self.forward_head(self.forward_features(image))

    def forward_features(self, image: Tensor) -> Tensor:
        """The last map, normalised: ``(B, in_chans, height, width) -> (B, H, W, C)``."""
        return self.norm(self.stages(self.patch_embed(image)))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool and classify: ``(B, H, W, C) -> (B, num_classes)``, or ``(B, C)`` before the classifier."""
        return self.head(x, pre_logits=pre_logits)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The maps after chosen stages, as timm asks for them.

        Args:
            x: images ``(B, in_chans, height, width)``.
            indices: stages to take; a number for the last ones; None for all.
            norm: whether the last stage's map is normalised.
            stop_early: whether stages after the last chosen one are left out.
            output_fmt: ``"NCHW"`` or ``"NHWC"``.
            intermediates_only: whether the last map is left out of the result.
        """
        if output_fmt not in ("NCHW", "NHWC"):
            raise ValueError(f"output_fmt must be 'NCHW' or 'NHWC', got {output_fmt!r}")
        chosen = registry.feature_indices(indices, len(self.stages))
        x = self.patch_embed(x)
        maps, last = [], len(self.stages) - 1
        for index, stage in enumerate(self.stages[: chosen[-1] + 1] if stop_early else self.stages):
            x = stage(x)
            if index in chosen:
                maps.append(self.norm(x) if norm and index == last else x)
        if output_fmt == "NCHW":
            maps = [y.permute(0, 3, 1, 2).contiguous() for y in maps]
        if intermediates_only:
            return maps
        return x if stop_early and chosen[-1] < last else self.norm(x), maps

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the stages after the last chosen one; returns the chosen stages."""
        chosen = registry.feature_indices(indices, len(self.stages))
        last = chosen[-1]
        shortened = last < len(self.stages) - 1
        if prune_norm or shortened:
            self.norm = nn.Identity()
        self.stages = self.stages[: last + 1]
        self.num_features = self.feature_info[last]["num_chs"]
        if prune_head or shortened:
            self.reset_classifier(0, "")
        return chosen

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one; ``global_pool`` None keeps the pooling."""
        self.num_classes = num_classes
        if global_pool is not None:
            self.global_pool = global_pool
        head = ClassifierHead(
            self.num_features, num_classes, self.global_pool, self.drop_rate, input_fmt=self.output_fmt
        )
        self.head = head.apply(init_linear).to(self.patch_embed.proj.weight).train(self.training)
        self.head_hidden_size = head.num_features

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute every block in the backward pass instead of keeping its activations."""
        for stage in self.stages.children():
            stage.grad_checkpointing = enable  # type: ignore[assignment]

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay leaves alone, beside those of one dimension."""
        biases = ("relative_position_bias_table", "key_bias", "shift.bias")
        return {name for name, _ in self.named_parameters() if name.endswith(biases)}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """How timm groups the parameters, stem first, for a learning rate that decays by layer."""
        blocks = [
            (r"^stages\.(\d+)\.downsample", (0,)),
            (r"^stages\.(\d+)\.\w+\.(\d+)", None),
            (r"^norm", (99999,)),
        ]
        return {"stem": r"^patch_embed", "blocks": r"^stages\.(\d+)" if coarse else blocks}


def check_stages(
    depths: Sequence[int], num_heads: Sequence[int], windows: Sequence[int], slide_stages: Sequence[int]
) -> None:
    """Refuse stages that do not fit together."""
    if not depths or len({len(depths), len(num_heads), len(windows)}) > 1:
        raise ValueError(
            "depths, num_heads and window_size must have one entry for each stage, "
            f"got {tuple(depths)}, {tuple(num_heads)} and {tuple(windows)}"
        )
    if not set(slide_stages) <= set(range(len(depths))):
        raise ValueError(
            f"slide_stages must be from 0, the first, to {len(depths) - 1}, got {tuple(slide_stages)}"
        )


default_cfgs = registry.default_cfgs(VARIANTS)
registry.register(SlideSwin, VARIANTS, __name__)
