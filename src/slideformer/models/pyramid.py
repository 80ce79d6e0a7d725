# SPDX-License-Identifier: Apache-2.0
"""The model that all families are: stages on ever smaller maps, with the methods that timm calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from timm.layers import ClassifierHead
from timm.models import checkpoint_seq
from torch import Tensor, nn

from slideformer.layers.drop_path import DropPath
from slideformer.models.initialise import init_linear
from slideformer.models.plan import Plan

# Timm's names of what pools a map, each with or without "fast" before it, which changes nothing here.
POOLINGS = ("avg", "max", "avgmax", "catavgmax", "")


class Block(nn.Module):
    """Attention, then an MLP, both residual and with a norm before them.

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
        super().__init__()
        self.norm1, self.norm2 = norm_layer(dim), norm_layer(dim)
        self.attention = attention
        self.mlp = mlp
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Transform a map: ``(B, H, W, C) -> (B, H, W, C)``."""
        x = self.drop_path(x, lambda x: self.attention(self.norm1(x)), x)
        return self.drop_path(x, lambda x: self.mlp(self.norm2(x)), x)


class Stage(nn.Module):
    """Blocks on maps of one size.

    Args:
        downsample: applied before the blocks, from the map of the previous stage to this stage's.
        blocks: each maps ``(B, H', W', C')`` to the same shape.
        norm: applied after the blocks; None for nothing.

    Shape: ``(B, H, W, C) -> (B, H', W', C')``.
    """

    def __init__(
        self, downsample: nn.Module, blocks: Sequence[nn.Module], norm: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.Identity() if norm is None else norm
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """Transform a map: ``(B, H, W, C) -> (B, H', W', C')``."""
        return self.norm(self.transform(self.downsample(x)))

    def transform(self, x: Tensor) -> Tensor:
        """Apply the blocks: ``(B, H', W', C') -> (B, H', W', C')``."""
        return checkpoint_seq(self.blocks, x) if self.grad_checkpointing else self.blocks(x)


class Pyramid(nn.Module):
    """A hierarchical transformer, as timm builds its models: stem, stages, normalisation, classifier.

    A family derives from it and builds the parts from a `Plan` of its own arguments and the shared ones.

    Args:
        plan: the stages and the options of all families.
        patch_embed: the stem, from an image ``(B, in_chans, height, width)`` to a map ``(B, H, W, C)``.
        stages: in order; each takes the map of the previous one, the first that of the stem.
        norm: of the last map, at every position.

    Attributes:
        arguments: the arguments with which timm's registry built the model, to build it again; absent from
            a model that was built otherwise.

    Shape: ``(B, in_chans, height, width) -> (B, num_classes)``.

    Raises:
        ValueError: there is no pooling of that name.
    """

    output_fmt = "NHWC"
    head: Any
    global_pool: str
    arguments: Mapping[str, Any]

    def __init__(
        self, plan: Plan, *, patch_embed: nn.Module, stages: Sequence[Stage], norm: nn.Module
    ) -> None:
        super().__init__()
        self.in_chans = plan.options["in_chans"]
        self.drop_rate = plan.options["drop_rate"]
        self.num_features = plan.dims[-1]
        self.patch_embed = patch_embed
        self.stages = nn.Sequential(*stages)
        self.norm = norm
        self.feature_info = feature_info(plan.dims, plan.patch_size)
        self.reset_classifier(plan.options["num_classes"], plan.options["global_pool"])
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
        chosen = feature_indices(indices, len(self.stages))
        x = self.patch_embed(x)
        maps, last = [], len(self.stages) - 1
        for index, stage in enumerate(self.stages[: chosen[-1] + 1] if stop_early else self.stages):
            before, x = x, stage(x)
            if index in chosen:
                maps.append(self.as_map(self.norm(x) if norm and index == last else x, before))
        if output_fmt == "NCHW":
            maps = [y.permute(0, 3, 1, 2).contiguous() for y in maps]
        if intermediates_only:
            return maps
        return x if stop_early and chosen[-1] < last else self.norm(x), maps

    def as_map(self, x: Tensor, before: Tensor) -> Tensor:
        """A stage's output for the map ``before``, as a map: a family whose stages add tokens drops them."""
        return x

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the stages after the last chosen one; returns the chosen stages."""
        chosen = feature_indices(indices, len(self.stages))
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
        """Replace the classifier by a new one; ``global_pool`` None keeps the pooling.

        Raises:
            ValueError: there is no such pooling; the classifier stays.
        """
        pool = self.global_pool if global_pool is None else global_pool
        like = next(self.patch_embed.parameters())
        head = self.make_head(num_classes, pool).apply(init_linear).to(like).train(self.training)
        # Nothing changes before everything that may fail is done.
        self.num_classes, self.global_pool, self.head = num_classes, pool, head
        self.head_hidden_size = self.head.num_features

    def make_head(self, num_classes: int, global_pool: str) -> nn.Module:
        """Pooling and classifier, which is named ``fc``."""
        if global_pool.removeprefix("fast") not in POOLINGS:
            raise ValueError(
                f"global_pool must be one of {', '.join(map(repr, POOLINGS))}, got {global_pool!r}"
            )
        return ClassifierHead(
            self.num_features, num_classes, global_pool, self.drop_rate, input_fmt=self.output_fmt
        )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute every block in the backward pass instead of keeping its activations."""
        for stage in self.stages:
            assert isinstance(stage, Stage)
            stage.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters without weight decay, in addition to those of one dimension."""
        return self.parameters_named("relative_position_bias_table", "key_bias", "shift.bias")

    def parameters_named(self, *endings: str) -> set[str]:
        """Full names of the parameters that end in one of these."""
        return {name for name, _ in self.named_parameters() if name.endswith(endings)}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Timm's groups of parameters, stem first, for a learning rate that decays by layer."""
        blocks = [
            (r"^stages\.(\d+)\.blocks\.(\d+)", None),
            # Timm's sign for the group before: the last block's.
            (r"^stages\.(\d+)\.norm", (99999,)),
            # The rest of a stage comes before its first block.
            (r"^stages\.(\d+)", (0,)),
            (r"^norm", (99999,)),
        ]
        return {"stem": r"^patch_embed", "blocks": r"^stages\.(\d+)" if coarse else blocks}


def make_stages(
    plan: Plan, make_block: Callable[[int, int], nn.Module], make_merging: Callable[[int], nn.Module]
) -> list[Stage]:
    """Build the stages of a plan; ``make_block`` takes the numbers of stage and block."""
    return [
        Stage(make_merging(stage) if stage else nn.Identity(), plan.blocks(stage, make_block))
        for stage in plan.stages
    ]


def feature_info(dims: Sequence[int], patch_size: int) -> list[dict[str, Any]]:
    """Timm's facts about the map after each stage: channels, reduction of the side, name of the module."""
    return [
        {"num_chs": dim, "reduction": patch_size * 2**stage, "module": f"stages.{stage}"}
        for stage, dim in enumerate(dims)
    ]


def feature_indices(indices: int | Sequence[int] | None, count: int) -> list[int]:
    """Numbers of the stages that timm's ``indices`` choose among ``count``, in ascending order.

    Args:
        indices: a list of stages, from the end if negative; a number n for the last n; None for all.
        count: number of stages.

    Raises:
        ValueError: a stage that does not exist, or none at all.
    """
    if indices is None or isinstance(indices, int):
        indices = range(-count if indices is None else -indices, 0)
    if not indices or not all(-count <= index < count for index in indices):
        raise ValueError(f"indices must be stages from {-count} to {count - 1}, got {list(indices)}")
    return sorted(index % count for index in indices)
