# SPDX-License-Identifier: Apache-2.0
"""The bridge to timm's registry: a table of variants becomes models that ``timm.create_model`` knows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar, Protocol

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model, register_notrace_module
from torch import nn

from slideformer import layers
from slideformer.models.pyramid import Pyramid

# torch.fx cannot trace a layer that depends on the size of its map, so it takes each of ours as one node.
for _layer in layers.__all__:
    register_notrace_module(getattr(layers, _layer))


class Variant(Protocol):
    """A frozen dataclass: flat constructor arguments, and these, which may be class variables."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def img_size(self) -> int:
        """Side of the images that the variant is meant for, in pixels."""

    @property
    def patch_size(self) -> int:
        """Pixels a side that the stem makes one position of."""

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks of each stage."""


def default_cfgs(variants: Mapping[str, Variant], first_conv: str = "patch_embed.proj") -> Mapping[str, Any]:
    """Timm's facts about each variant: image size, normalisation, first and last layer.

    A family's module must have them under the name ``default_cfgs`` before `register` runs.

    Args:
        variants: of one family, by name.
        first_conv: name of the convolution that takes the image.
    """
    return generate_default_cfgs({name: facts(variant, first_conv) for name, variant in variants.items()})


def facts(variant: Variant, first_conv: str) -> dict[str, Any]:
    """Timm's facts about one variant without weights."""
    side = -(-variant.img_size // (variant.patch_size * 2 ** (len(variant.depths) - 1)))
    return {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, variant.img_size, variant.img_size),
        "pool_size": (side, side),
        "fixed_input_size": False,
        # The paper tests on the centre 224 of 256; a small image is not cropped.
        "crop_pct": 224 / 256 if variant.img_size >= 224 else 1.0,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": first_conv,
        "classifier": "head.fc",
        "paper_name": "Slide-Transformer",
        "paper_ids": "arXiv:2304.04237",
    }


def register(model: type[Pyramid], variants: Mapping[str, Variant], module: str) -> None:
    """Make every variant a model of timm's registry, as if written in the family's module."""
    for name, variant in variants.items():
        create = entrypoint(model, name, variant)
        create.__name__ = create.__qualname__ = name
        create.__module__ = module
        setattr(sys.modules[module], name, register_model(create))


def entrypoint(model: type[Pyramid], name: str, variant: Variant) -> Callable[..., nn.Module]:
    """The function that timm calls to build a variant."""

    # Any arguments, because timm adds its own to the model's.
    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return build_model_with_cfg(
            partial(build, model),
            name,
            pretrained,
            feature_cfg={"out_indices": tuple(range(len(variant.depths))), "feature_cls": "getter"},
            **{**asdict(variant), **kwargs},
        )

    return create


def build(
    model: type[Pyramid],
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **arguments: Any,
) -> nn.Module:
    """Build a model on a device and in a dtype, which timm passes with the model's own arguments."""
    with nullcontext() if device is None else torch.device(device):
        built = model(**arguments)
    built.arguments = arguments
    return built if dtype is None else built.to(dtype)
