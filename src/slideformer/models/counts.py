# SPDX-License-Identifier: Apache-2.0
"""Parameters and multiply-adds of a model, in the convention of the paper, and what the paper prints."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from slideformer.layers.deformed_shift import DeformedShift
from slideformer.layers.slide_attention import SlideAttention
from slideformer.models.merge import reparameterize


@dataclass(frozen=True)
class Counts:
    """Size and cost of a model.

    Attributes:
        parameters: as the paper trains it: the frozen kernel of every shift beside the learned one.
        merged_parameters: after merging the two into one.
        multiply_adds: of one image through the merged model.
    """

    parameters: int
    merged_parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Published:
    """What the paper prints of a model.

    Attributes:
        parameters_m: in millions; None where it prints none.
        multiply_adds_g: in billions.
        top1: in percent.
        note: why ours differ, or where the paper's are from; empty if there is nothing to say.
    """

    parameters_m: float | None
    multiply_adds_g: float
    top1: float
    note: str = ""


PLOTTED = "read off the paper's plot, which prints no numbers"
ADDED_UP = "the paper's is above what its layers add up to"
# Pan et al., 2023, table of ImageNet-1K results.
PUBLISHED = {
    "slide_pvt_tiny": Published(12.2, 2.0, 78.0),
    "slide_pvt_small": Published(22.7, 4.0, 81.7),
    "slide_pvt_medium": Published(None, 6.81, 82.9, PLOTTED),
    "slide_pvt_v2_b1": Published(13.0, 2.2, 79.5),
    "slide_pvt_v2_b2": Published(
        22.8, 4.2, 82.7, "22.8 M is less than its layers add up to; the paper's 43 M for detection fits ours"
    ),
    "slide_pvt_v2_b3": Published(None, 7.1, 83.8, PLOTTED),
    "slide_pvt_v2_b4": Published(None, 10.3, 84.1, PLOTTED),
    "slide_swin_tiny": Published(29, 4.6, 82.3, ADDED_UP),
    "slide_swin_small": Published(51, 8.9, 83.7, ADDED_UP),
    "slide_swin_base": Published(89, 15.5, 84.2, ADDED_UP),
}


def count(model: nn.Module | str, image_size: int | None = None) -> Counts:
    """Count a model, or a registered one by its name, on the meta device.

    Multiply-adds are those of convolutions and matrix products: all projections, attention in windows,
    and slide attention as the paper runs it, with one merged convolution for K and one for V. Norms,
    activations, softmax and sums of maps are not counted.

    Args:
        model: one of ours, not merged, or its name.
        image_size: side of the image in pixels; the model's own by default.
    """
    with torch.device("meta"):
        model = timm.create_model(model) if isinstance(model, str) else deepcopy(model).to("meta")
        assert isinstance(model.pretrained_cfg, dict)
        channels, side, _ = model.pretrained_cfg["input_size"]
        side = side if image_size is None else image_size
        image = torch.empty(1, channels, side, side)
    merged = reparameterize(model.eval())
    for module in merged.modules():
        if isinstance(module, SlideAttention):
            # That backend runs the paper's convolutions; the others compute the same by other sums.
            module.backend = "conv"
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        merged(image)
    return Counts(size(model) + frozen(model), size(merged), counter.get_total_flops() // 2)


def size(model: nn.Module) -> int:
    """Parameters that the model holds."""
    return sum(parameter.numel() for parameter in model.parameters())


def frozen(model: nn.Module) -> int:
    """Parameters of the paper's fixed convolutions, each of the shape of the learned one beside it."""
    return sum(size(module) for module in model.modules() if isinstance(module, DeformedShift))
