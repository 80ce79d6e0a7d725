# SPDX-License-Identifier: Apache-2.0
"""The bridge to timm's registry: a table of variants becomes models that ``timm.create_model`` knows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar, Protocol

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model, register_notrace_module
from torch import nn

from slideformer.layers.patch import PatchEmbed, PatchMerging
from slideformer.layers.slide_attention import SlideAttention
from slideformer.layers.window_attention import WindowAttention

# torch.fx cannot follow a layer that looks at the size of its map, so these stay whole.
for _layer in (PatchEmbed, PatchMerging, SlideAttention, WindowAttention):
    register_notrace_module(_layer)


class Variant(Protocol):
    """A frozen dataclass: flat constructor arguments, among them these."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def img_size(self) -> int:
        """Side of the images that the variant is meant for, in pixels."""

    @property
    def patch_size(self) -> int:
        """Side of a patch, in pixels."""

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks of each stage."""


def default_cfgs(variants: Mapping[str, Variant]) -> Mapping[str, Any]:
    """What timm wants to know about each variant: image size, normalisation, first and last layer.

    They must stand in the family's module under the name ``default_cfgs`` before `register` runs.
    """
    return generate_default_cfgs({name: facts(variant) for name, variant in variants.items()})


def facts(variant: Variant) -> dict[str, Any]:
    """What timm wants to know about one variant, without weights."""
    side = -(-variant.img_size // (variant.patch_size * 2 ** (len(variant.depths) - 1)))
    return {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, variant.img_size, variant.img_size),
        "pool_size": (side, side),
        "fixed_input_size": False,
        # The paper tests on the centre 224 of 256; a small image is taken whole.
        "crop_pct": 224 / 256 if variant.img_size >= 224 else 1.0,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "patch_embed.proj",
        "classifier": "head.fc",
        "paper_name": "Slide-Transformer",
        "paper_ids": "arXiv:2304.04237",
    }


def register(model: type[nn.Module], variants: Mapping[str, Variant], module: str) -> None:
    """Make every variant a model of timm's registry, as if written in the family's module."""
    for name, variant in variants.items():
        create = entrypoint(model, name, variant)
        create.__name__ = create.__qualname__ = name
        create.__module__ = module
        setattr(sys.modules[module], name, register_model(create))


def entrypoint(model: type[nn.Module], name: str, variant: Variant) -> Callable[..., nn.Module]:
    """The function that timm calls to build a variant."""

    # Open arguments because timm hands on its own beside the model's.
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
    model: type[nn.Module],
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **arguments: Any,
) -> nn.Module:
    """A model on a device and in a dtype, which timm hands on with the model's own arguments."""
    with nullcontext() if device is None else torch.device(device):
        built = model(**arguments)
    # To build it again from a saved folder.
    built.arguments = arguments  # type: ignore[assignment]
    return built if dtype is None else built.to(dtype)


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
