# SPDX-License-Identifier: Apache-2.0
"""A backbone as a list of maps, from fine to coarse, for dense heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import timm
import torch
from timm.layers import LayerNorm2d
from timm.models import group_parameters
from torch import Tensor, nn

from slideformer.errors import UserError
from slideformer.models.names import pretrained_cfg

MAPS = 4
# What makes timm's models of one image size take any; the first that a model knows is passed. Timm shifts no
# windows of Swin where the image that it is made for leaves but one of them: it is made for a larger image.
ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"strict_img_size": False, "always_partition": False, "img_size": 448},
    {"strict_img_size": False},
    {"dynamic_img_size": True},
)


class Features(nn.Module):
    """The maps after the last four stages of a backbone, each normalised, from images as they are stored.

    Args:
        backbone: timm's name of it, ours or another's.
        norm: whether every map is normalised over its channels, as the authors of Swin do for dense tasks:
            a stage's output is a sum that no normalisation has seen.
        frozen_stages: how many stages, the stem with them, are not trained; 0 for none.
        drop_path_rate: stochastic depth; None for the model's own.
        grad_checkpointing: whether blocks are recomputed in the backward pass, for less memory.
        options: further arguments of the backbone.

    Shape: ``(B, 3, height, width) -> [(B, C, height / stride, width / stride), ...]``, pixels in [0, 1].

    Raises:
        UserError: there is no such backbone, it does not take the arguments or gives no maps.
        ValueError: ``frozen_stages`` is negative or more than there are.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: str,
        *,
        norm: bool = True,
        frozen_stages: int = 0,
        drop_path_rate: float | None = None,
        grad_checkpointing: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        facts = pretrained_cfg(backbone)
        arguments = dict(options or {})
        if drop_path_rate is not None:
            arguments["drop_path_rate"] = drop_path_rate
        self.backbone, self.arguments = backbone, arguments
        self.model = create(backbone, arguments, fixed=bool(facts.get("fixed_input_size")))
        self.indices: Sequence[int] = cast("Any", self.model).prune_intermediate_layers(MAPS, prune_norm=True)
        info = [cast("Any", self.model).feature_info[index] for index in self.indices]
        self.channels = [int(entry["num_chs"]) for entry in info]
        self.strides = [int(entry["reduction"]) for entry in info]
        self.norms = nn.ModuleList(LayerNorm2d(c) if norm else nn.Identity() for c in self.channels)
        self.normalisation = {name: tuple(facts[name]) for name in ("mean", "std")}
        for name in self.normalisation:
            self.register_buffer(name, torch.empty(3, 1, 1), persistent=False)
        self.reset_parameters()
        self.frozen_stages = frozen_stages
        self.freeze(frozen_stages)
        if grad_checkpointing:
            cast("Any", self.model).set_grad_checkpointing(True)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps, from fine to coarse: ``(B, 3, height, width) -> [(B, C, H, W), ...]``."""
        return self.of_normalised((image - self.mean) / self.std)

    def of_normalised(self, image: Tensor) -> list[Tensor]:
        """Maps of images that are normalised already, of the same shapes."""
        maps = cast("Any", self.model).forward_intermediates(
            image,
            indices=list(self.indices),
            intermediates_only=True,
            output_fmt="NCHW",
        )
        return [norm(x) for norm, x in zip(self.norms, maps, strict=True)]

    def reset_parameters(self) -> None:
        """Fill the buffers; this module has no parameters of its own."""
        self.init_non_persistent_buffers()

    def init_non_persistent_buffers(self) -> None:
        """Fill what is not in the state dict, by timm's name, for loaders that build on the meta device."""
        for name, values in self.normalisation.items():
            buffer = self.get_buffer(name)
            buffer.copy_(torch.tensor(values, device=buffer.device).view(3, 1, 1))

    def freeze(self, stages: int) -> None:
        """Stop training the stem and the first stages."""
        if not 0 <= stages <= len(self.channels):
            raise ValueError(f"frozen_stages must be from 0 to {len(self.channels)}, got {stages}")
        matcher = cast("Any", self.model).group_matcher(coarse=True)
        layers = group_parameters(self.model, matcher, reverse=True)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(not stages or layers[name] > stages)

    def train(self, mode: bool = True) -> Features:
        """Switch to training, all but what is frozen: its statistics and its depth stay."""
        super().train(mode)
        if mode and self.frozen_stages:
            for module in self.model.modules():
                weights = list(module.parameters())
                if weights and not any(weight.requires_grad for weight in weights):
                    module.eval()
        return self


def create(backbone: str, arguments: Mapping[str, Any], *, fixed: bool) -> nn.Module:
    """The backbone without a classifier, for any image size where it can be had."""
    attempts = ({**extra, **arguments} for extra in ((*ANY_SIZE, {}) if fixed else ({},)))
    errors: list[Exception] = []
    for attempt in attempts:
        try:
            model = timm.create_model(backbone, num_classes=0, **attempt)
        except (TypeError, ValueError) as error:
            errors.append(error)
            continue
        if not hasattr(model, "forward_intermediates") or len(cast("Any", model).feature_info) < MAPS:
            raise UserError(f"the backbone must give {MAPS} maps, got {backbone}; choose another")
        return model
    raise UserError(f"{backbone} must be given arguments that it takes, got {dict(arguments)}: {errors[-1]}")


class OverBackbone:
    """A part of every dense model: without it all weights would decay, and all at one rate."""

    def no_weight_decay(self) -> set[str]:
        """Names of the weights that the backbone does not want to decay."""
        prefix, features = features_in(cast("nn.Module", self))
        ask = getattr(features.model, "no_weight_decay", set)
        return {f"{prefix}.model.{name}" for name in ask()}

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """The number of a weight's layer by its name: the backbone's layers, stem first, then all else.

        Args:
            coarse: whether a layer is a whole stage.
        """
        prefix, features = features_in(cast("nn.Module", self))
        matcher = cast("Any", features.model).group_matcher(coarse=coarse)
        groups = group_parameters(features.model, matcher, reverse=True)
        layers = {f"{prefix}.model.{name}": int(layer) for name, layer in groups.items()}
        above = max(layers.values()) + 1
        return lambda name: layers.get(name, above)


def features_in(model: nn.Module) -> tuple[str, Features]:
    """The backbone of a dense model, and its name there."""
    return next((name, part) for name, part in model.named_modules() if isinstance(part, Features))
