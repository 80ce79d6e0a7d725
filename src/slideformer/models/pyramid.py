# SPDX-License-Identifier: Apache-2.0
"""What all families have in common: four stages on ever smaller maps, and what timm asks of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from timm.layers import ClassifierHead, DropPath
from timm.models import checkpoint_seq
from torch import Tensor, nn

from slideformer.models.initialise import init_linear

# Timm's names of what pools a map, each with or without "fast" before it, which changes nothing here.
POOLINGS = ("avg", "max", "avgmax", "catavgmax", "")


class AttentionOptions(TypedDict):
    """Options that every kind of attention has."""

    qkv_bias: bool
    attn_drop: float
    proj_drop: float


class Block(nn.Module):
    """Attention, then a perceptron, each normalised before and added to what came in.

    Args:
        attention: maps ``(B, H, W, C)`` to ``(B, H, W, C)``, as the perceptron does.
        mlp: the perceptron.
        norms: before the attention, and before the perceptron.
        drop_path: probability that an image skips either of the two in training.

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
    """Blocks on maps of one size.

    Args:
        downsample: what comes before the blocks: from the map of the stage before to this stage's.
        blocks: each maps ``(B, H', W', C')`` to the same shape.
        norm: what comes after them; None for nothing.

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

    A family derives from it, builds the parts from its own flat arguments and hands them on.

    Args:
        patch_embed: the stem, from an image ``(B, in_chans, height, width)`` to a map ``(B, H, W, C)``.
        stages: in order; each takes the map of the one before, the first that of the stem.
        norm: of the last map, at every position.
        dims: channels of each stage.
        patch_size: pixels a side that the stem makes one position of; each further stage doubles them.
        in_chans: channels of an image.
        num_classes: classes; 0 for no classifier.
        global_pool: timm's name of the pooling before the classifier; ``""`` for none.
        drop_rate: dropout before the classifier.

    Shape: ``(B, in_chans, height, width) -> (B, num_classes)``.

    Raises:
        ValueError: there is no pooling of that name.
    """

    output_fmt = "NHWC"
    head: Any
    global_pool: str

    def __init__(
        self,
        *,
        patch_embed: nn.Module,
        stages: Sequence[Stage],
        norm: nn.Module,
        dims: Sequence[int],
        patch_size: int,
        in_chans: int,
        num_classes: int,
        global_pool: str,
        drop_rate: float,
    ) -> None:
        super().__init__()
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.num_features = dims[-1]
        self.patch_embed = patch_embed
        self.stages = nn.Sequential(*stages)
        self.norm = norm
        self.feature_info = feature_info(dims, patch_size)
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
        """What a stage made of the map ``before``, as a map: a family whose stages add tokens drops them."""
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
        # Nothing changes before all that may fail is done.
        self.num_classes, self.global_pool, self.head = num_classes, pool, head
        self.head_hidden_size = self.head.num_features

    def make_head(self, num_classes: int, global_pool: str) -> nn.Module:
        """Pooling and classifier, which has the name ``fc``."""
        if global_pool.removeprefix("fast") not in POOLINGS:
            raise ValueError(
                f"global_pool must be one of {', '.join(map(repr, POOLINGS))}, got {global_pool!r}"
            )
        return ClassifierHead(
            self.num_features, num_classes, global_pool, self.drop_rate, input_fmt=self.output_fmt
        )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute every block in the backward pass instead of keeping its activations."""
        for stage in self.stages.children():
            stage.grad_checkpointing = enable  # type: ignore[assignment]

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay leaves alone, beside those of one dimension."""
        return self.parameters_named("relative_position_bias_table", "key_bias", "shift.bias")

    def parameters_named(self, *endings: str) -> set[str]:
        """Full names of the parameters that end in one of these."""
        return {name for name, _ in self.named_parameters() if name.endswith(endings)}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """How timm groups the parameters, stem first, for a learning rate that decays by layer."""
        blocks = [
            (r"^stages\.(\d+)\.blocks\.(\d+)", None),
            # Timm's sign for the group before: the last block's.
            (r"^stages\.(\d+)\.norm", (99999,)),
            # What else a stage has comes before its first block.
            (r"^stages\.(\d+)", (0,)),
            (r"^norm", (99999,)),
        ]
        return {"stem": r"^patch_embed", "blocks": r"^stages\.(\d+)" if coarse else blocks}


def check_stages(
    depths: Sequence[int],
    per_stage: Mapping[str, Sequence[Any]],
    slide_stages: Sequence[int],
    *,
    last_stays: str = "",
) -> None:
    """Refuse stages that do not fit together.

    Args:
        depths: blocks of each stage, at least one.
        per_stage: further arguments that have one entry for each stage, by name.
        slide_stages: the stages that slide.
        last_stays: why the last stage cannot slide, where it cannot.

    Raises:
        ValueError: says what must hold.
    """
    for name, entries in {"depths": depths, **per_stage, "slide_stages": slide_stages}.items():
        if not isinstance(entries, Sequence) or isinstance(entries, str):
            raise ValueError(
                f"{name} must be a sequence of numbers, got {entries!r}; use ({entries!r},) for one"
            )
    if not depths or any(len(entries) != len(depths) for entries in per_stage.values()):
        *names, last = ("depths", *per_stage)
        *given, final = (str(tuple(entries)) for entries in (depths, *per_stage.values()))
        raise ValueError(
            f"{', '.join(names)} and {last} must have one entry for each stage, "
            f"got {', '.join(given)} and {final}"
        )
    if min(depths) < 1:
        raise ValueError(f"depths must be at least 1 block in each stage, got {tuple(depths)}")
    sliding = range(len(depths) - bool(last_stays))
    if not set(slide_stages) <= set(sliding):
        bounds = f"from 0, the first, to {len(sliding) - 1}" if sliding else "()"
        reason = f", because {last_stays}" if last_stays else ""
        raise ValueError(f"slide_stages must be {bounds}{reason}, got {tuple(slide_stages)}")


def drop_path_rates(last: float, depths: Sequence[int]) -> list[list[float]]:
    """Stochastic depth of each block of each stage: it grows linearly from 0 to that of the last block."""
    total = max(sum(depths) - 1, 1)
    return [
        [last * (sum(depths[:stage]) + block) / total for block in range(depth)]
        for stage, depth in enumerate(depths)
    ]


def feature_info(dims: Sequence[int], patch_size: int) -> list[dict[str, Any]]:
    """What timm wants to know about the map after each stage: channels, reduction of the side, module."""
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
