# SPDX-License-Identifier: Apache-2.0
"""Attention weights as further outputs of an exported file, one a layer, and the facts about each layer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from slideformer.errors import UserError
from slideformer.layers import NeighborhoodAttention, SlideAttention
from slideformer.ops import checks
from slideformer.ops.window import BORDERS
from slideformer.runs.fields import TEXT, check_fields, integer, many, number, optional, word
from slideformer.runs.run import TaskName

# What can give its weights: `attention_weights` is theirs.
LAYERS = (SlideAttention, NeighborhoodAttention)
# The names of outputs begin with it, which readers that only want a model's answers leave out.
OUTPUT = "attention_"
# The stage and block in a layer's name, the same in all families.
PLACE = re.compile(r"stages[._](\d+)\.blocks\.(\d+)")
# Maps shrink by divisors of it, so that an image of such sides shows the stride of each stage.
DIVISIBLE = 64
# Decimals of the shift's weights, which are drawn and not computed with.
DECIMALS = 4
# Far above those of any model.
MOST_LAYERS, MOST_TAPS, LARGEST = 1000, 2**12, 2**16
SHIFT = many(many(number(-1e9, 1e9), 1, MOST_TAPS), 1, MOST_TAPS)
FIELDS = {
    "output": TEXT,
    **dict.fromkeys(("stage", "block"), optional(integer(1, MOST_LAYERS))),
    **dict.fromkeys(("kernel_size", "dilation"), many(integer(1, LARGEST), 2, 2)),
    "border": many(word(*BORDERS), 2, 2),
    **dict.fromkeys(("stride", "heads"), integer(1, LARGEST)),
    "shift": optional(SHIFT),
}
TWO = tuple[int, int]


@dataclass(frozen=True)
class AttentionLayer:
    """A layer whose attention weights a file gives.

    Attributes:
        output: name of the output, ``(B, H, W, heads, taps)``.
        stage: of the model, from 1; None where it has no stages.
        block: of the stage, from 1; None where there is no stage.
        kernel_size: of the window, rows and columns, in positions; taps are in row-major order.
        dilation: spacing of the taps along both axes, in positions.
        border: treatment of positions outside the map along both axes.
        stride: from one position to the next, in pixels of the input.
        heads: number of heads.
        shift: of a deformed layer, the merged weights of each output tap over the input taps, ``(T, T)``,
            their mean over the channels; else None.
    """

    output: str
    stage: int | None
    block: int | None
    kernel_size: TWO
    dilation: TWO
    border: tuple[str, str]
    stride: int
    heads: int
    shift: tuple[tuple[float, ...], ...] | None

    def values(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)

    @classmethod
    def of(cls, values: object, file: Path) -> AttentionLayer:
        """Read what `values` wrote.

        Raises:
            UserError: a value is absent, or is not what it must be.
        """
        if not isinstance(values, Mapping):
            raise UserError(f"attention in {file} must be a list of objects; export it again")
        known = check_fields(values, FIELDS, file)
        shift, taps = known["shift"], known["kernel_size"][0] * known["kernel_size"][1]
        if shift is not None and {len(shift), *map(len, shift)} != {taps}:
            raise UserError(f"shift in {file} must be of {taps} x {taps} taps, got others; export it again")
        pairs = {name: tuple(known[name]) for name in ("kernel_size", "dilation", "border")}
        rows = None if shift is None else tuple(map(tuple, shift))
        return cls(**{**known, **pairs, "shift": rows})


class AttentionGraph(nn.Module):
    """A model that also gives its attention weights, each layer's in the order in which they run.

    Hooks compute the weights next to the layers, whose own computation stays as it is: so do the logits.

    Args:
        module: maps ``(B, channels, height, width)`` to logits.

    Shape: ``(B, channels, height, width)`` to the logits and ``(B, H, W, heads, taps)`` of each layer.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Run the model."""
        logits, layers = self.run(image)
        return (logits, *(weights for _, weights in layers))

    def run(self, image: Tensor) -> tuple[Tensor, list[tuple[str, Tensor]]]:
        """The logits, and the name and the attention weights of each layer."""
        found: list[tuple[str, Tensor]] = []
        names = {layer: name for name, layer in self.module.named_modules() if isinstance(layer, LAYERS)}

        def look(layer: Any, given: Any, out: Tensor) -> None:
            found.append((names[layer], layer.attention_weights(*given)))

        hooks = [layer.register_forward_hook(look) for layer in names]
        try:
            return self.module(image), found
        finally:
            for hook in hooks:
                hook.remove()

    @torch.no_grad()
    def layers(self, example: Tensor, *, one_size: bool) -> tuple[AttentionLayer, ...]:
        """The facts about each layer.

        Args:
            example: an input ``(B, channels, height, width)``.
            one_size: whether the model, not only its file, takes no other size. Else strides are those at a
                size that every stage divides: at others, maps are padded.

        Raises:
            UserError: there is no such layer.
        """
        height, width = (
            side if one_size else -(-side // DIVISIBLE) * DIVISIBLE for side in example.shape[2:]
        )
        _, found = self.run(example.new_zeros(1, example.shape[1], height, width))
        strides = [round(height / weights.shape[1]) for _, weights in found]
        if not found:
            raise UserError(
                "attention weights need a model with layers of slide or neighborhood attention, got one "
                "without; leave `attention` out"
            )
        return tuple(
            facts_of(f"{OUTPUT}{order}", name, self.module.get_submodule(name), stride)
            for order, ((name, _), stride) in enumerate(zip(found, strides, strict=True), start=1)
        )


def facts_of(output: str, name: str, layer: Any, stride: int) -> AttentionLayer:
    """The facts about a layer, by its name in the model."""
    window, place = checks.window(layer.kernel_size, layer.dilation, layer.border), PLACE.search(name)
    if len(window.border) != 2:
        raise UserError(f"attention weights must be of maps of two axes, got {len(window.border)} in {name}")
    stage, block = (None, None) if place is None else (int(number) + 1 for number in place.groups())
    shift = getattr(layer, "shift", None)
    return AttentionLayer(
        output=output,
        stage=stage,
        block=block,
        kernel_size=cast("TWO", window.kernel_size),
        dilation=cast("TWO", window.dilation),
        border=cast("tuple[str, str]", window.border),
        stride=stride,
        heads=layer.num_heads,
        shift=None if shift is None else mean_of(shift()[0]),
    )


def mean_of(shift_weight: Tensor) -> tuple[tuple[float, ...], ...]:
    """The mean over the channels of a merged shift: ``(D, T, T) -> (T, T)``, rounded."""
    return tuple(tuple(round(x, DECIMALS) for x in row) for row in shift_weight.double().mean(0).tolist())


def check_attention(runtime: str, task: TaskName, precision: str) -> None:
    """Check that a file of this kind can give attention weights.

    Raises:
        UserError: it cannot.
    """
    if (runtime, precision) != ("onnx", "float32") or task == "detect":
        raise UserError(
            "attention weights are given by files for onnx, in float32, of classifiers and segmenters, got "
            f"{runtime}, {precision}, a model to {task}; leave `attention` out"
        )
