# SPDX-License-Identifier: Apache-2.0
"""Parameters and multiply-adds of a model, in the convention of the paper, and the paper's figures."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from slideformer.layers.deformed_shift import DeformedShift
from slideformer.layers.neighborhood import NeighborhoodAttention
from slideformer.layers.slide_attention import SlideAttention
from slideformer.models.merge import reparameterize


@dataclass(frozen=True)
class Counts:
    """Size and cost of a model.

    Attributes:
        parameters: as the paper trains it: the frozen kernel of every shift and the learned one.
        merged_parameters: after the two are merged into one.
        multiply_adds: of one image through the merged model.
    """

    parameters: int
    merged_parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Published:
    """Figures of a model in the paper, or where it has none, of the plain host in the host's own paper.

    Attributes:
        parameters_m: in millions; None where it prints none.
        multiply_adds_g: in billions.
        top1: in percent.
        note: the reason why ours differ, or the source of the paper's; empty for none.
        of_host: whether the figures are those of the plain host.
    """

    parameters_m: float | None
    multiply_adds_g: float
    top1: float
    note: str = ""
    of_host: bool = False


PLOTTED = "read off the paper's plot, which prints no numbers"
ADDED_UP = "the paper's is above what its layers add up to"
ROUNDED = "the paper prints whole millions"
FIRST_STAGE = "the first stage alone slides here: with the second as well there are still more multiply-adds"
OF_THE_HOST = "the plain host's, in its authors' paper: none has been published for one that slides"
PRETRAINED = "first trained on ImageNet-22K"
CSWIN_TINY = "the plain host's, in CSwin's paper, whose 23 M are 0.7 M above what its layers add up to"
# Pan et al., 2023, table of ImageNet-1K results.
PUBLISHED = {
    "slide_cswin_tiny": Published(23, 4.3, 82.7, CSWIN_TINY, of_host=True),  # Dong et al., 2022
    "slide_cswin_small": Published(35, 6.9, 84.0, ROUNDED),
    "slide_cswin_base": Published(78, 15.0, 84.7, ROUNDED),
    "slide_nat_mini": Published(None, 2.70, 82.4, f"{PLOTTED}; {FIRST_STAGE}"),
    "slide_nat_tiny": Published(28, 4.3, 83.6, FIRST_STAGE),
    "slide_nat_small": Published(51, 7.8, 84.3, FIRST_STAGE),
    "slide_nat_base": Published(90, 13.7, 84.3, OF_THE_HOST, of_host=True),  # Hassani et al., 2023
    "slide_dinat_mini": Published(20, 2.7, 81.8, OF_THE_HOST, of_host=True),  # Hassani and Shi, 2022
    "slide_dinat_tiny": Published(28, 4.3, 82.7, OF_THE_HOST, of_host=True),
    "slide_dinat_small": Published(51, 7.8, 83.8, OF_THE_HOST, of_host=True),
    "slide_dinat_base": Published(90, 13.7, 84.4, OF_THE_HOST, of_host=True),
    "slide_dinat_large": Published(200, 30.6, 86.6, f"{OF_THE_HOST}; {PRETRAINED}", of_host=True),
    "slide_dat_tiny": Published(24.0, 4.3, 83.9, OF_THE_HOST, of_host=True),  # Xia et al., 2023
    "slide_dat_small": Published(53, 9.4, 84.6, OF_THE_HOST, of_host=True),
    "slide_mvit_v2_tiny": Published(24, 4.7, 82.3, OF_THE_HOST, of_host=True),  # Li et al., 2022
    "slide_mvit_v2_small": Published(35, 7.0, 83.6, OF_THE_HOST, of_host=True),
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

# Top-1 of the plain hosts in percent, by the name of our model with ``slide_stages=()``, from
# their own papers; the paper's table repeats those that it compares with.
HOST_TOP1 = {
    "slide_cswin_tiny": 82.7,
    "slide_cswin_small": 83.6,
    "slide_cswin_base": 84.2,
    "slide_nat_mini": 81.8,
    "slide_nat_tiny": 83.2,
    "slide_nat_small": 83.7,
    "slide_nat_base": 84.3,
    "slide_pvt_tiny": 75.1,
    "slide_pvt_small": 79.8,
    "slide_pvt_medium": 81.2,
    "slide_pvt_v2_b1": 78.7,
    "slide_pvt_v2_b2": 82.0,
    "slide_pvt_v2_b3": 83.1,
    "slide_pvt_v2_b4": 83.6,
    "slide_swin_tiny": 81.3,
    "slide_swin_small": 83.0,
    "slide_swin_base": 83.5,
}


def count(model: nn.Module | str, image_size: int | None = None) -> Counts:
    """Count a model, or a registered one by its name, on the meta device.

    Multiply-adds are those of convolutions and matrix products: all projections, attention in windows
    and neighbourhoods, and slide attention as the paper runs it, with one merged convolution for K and one
    for V. Norms, activations, softmax and sums of maps are not counted.

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
    return Counts(size(model) + frozen(model), size(merged), multiply_adds(merged, image))


def multiply_adds(merged: nn.Module, x: Tensor | list[Tensor] | dict[str, Tensor]) -> int:
    """Count those of convolutions and matrix products of a merged module, whose backends are changed.

    Args:
        merged: on the meta device, in evaluation mode.
        x: its input, on the meta device.
    """
    for module in merged.modules():
        # The backends whose products the paper counts; others compute the same numbers by other sums.
        if isinstance(module, SlideAttention):
            module.backend = "conv"  # the merged convolutions, logits and output
        if isinstance(module, NeighborhoodAttention):
            module.backend = "reference"  # logits and output
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        merged(x)
    return counter.get_total_flops() // 2


def size(model: nn.Module) -> int:
    """Parameters that the model holds."""
    return sum(parameter.numel() for parameter in model.parameters())


def frozen(model: nn.Module) -> int:
    """Parameters of the paper's fixed convolutions, each of the shape of its learned one."""
    return sum(size(module) for module in model.modules() if isinstance(module, DeformedShift))
