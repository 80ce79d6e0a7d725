# SPDX-License-Identifier: Apache-2.0
"""The options of detectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import NoneType
from typing import Any, TypeVar

from slideformer.errors import UserError, check_range

Options = TypeVar("Options", bound="DetectorOptions")
# What a value may be, by the annotation of its field.
KINDS: dict[str, Any] = {
    "int": int,
    "float": (int, float),
    "float | None": (int, float, NoneType),
    "bool": bool,
    "str": str,
    "Mapping[str, Any]": Mapping,
}
# Counts that may be 0; all others are at least 1.
MAY_BE_ZERO = ("frozen_stages", "box_convs")
MOST = 1_000_000
# A side of an image that is resized, in pixels.
LONGEST_RESIZED = 8192
# Those that are a side of an image, in pixels.
SIDES = ("min_size", "max_size")
# Those that are a share or a probability.
SHARES = ("score_threshold", "nms_threshold", "positive_share", "drop_path_rate")


@dataclass(frozen=True)
class DetectorOptions:
    """Options of every detector.

    Attributes:
        frozen_stages: how many stages of the backbone, the stem with them, are not trained.
        drop_path_rate: stochastic depth of the backbone; None for its own.
        grad_checkpointing: whether the backbone's blocks are recomputed in the backward pass.
        norm: whether the backbone's maps are normalised before the pyramid.
        options: further arguments of the backbone.
        fpn_channels: channels of the pyramid's maps, and of the convolutions on them.
        anchor_scale: side of the smallest anchor of a map, in the map's strides; None for the head's own.
        min_size: shorter side of the image in evaluation, in pixels.
        max_size: the most that the longer side may then have.
        score_threshold: a detection below it is dropped.
        nms_threshold: of two boxes of a class that overlap by more, the one of the lower score is dropped.
        detections: the most of one image.
    """

    frozen_stages: int = 0
    drop_path_rate: float | None = None
    grad_checkpointing: bool = False
    norm: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    fpn_channels: int = 256
    anchor_scale: float | None = None
    min_size: int = 800
    max_size: int = 1333
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    detections: int = 100

    def __post_init__(self) -> None:
        for entry in fields(self):
            name, kind, value = entry.name, str(entry.type), getattr(self, entry.name)
            if not isinstance(value, KINDS[kind]) or (isinstance(value, bool) and kind != "bool"):
                raise UserError(f"{name} must be of type {kind}, got {value!r}")
            if name in SIDES:
                check_range(name, value, 1, LONGEST_RESIZED)
            elif name in SHARES:
                check_range(name, value, 0, 1)
            elif kind in ("int", "float | None"):
                check_range(name, value, 0 if name in MAY_BE_ZERO else 1, MOST)


@dataclass(frozen=True)
class RegionOptions(DetectorOptions):
    """Further options of detectors with proposals.

    Attributes:
        head_channels: of the fully connected layers on a region.
        proposals_training: regions of an image that the first stage proposes in training.
        proposals: regions that it proposes in evaluation.
        rpn_samples: anchors of an image that the first stage learns from.
        box_samples: proposals of an image that the second stage learns from.
        positive_share: the largest share of objects among these.
        sampling_ratio: points a side from which RoIAlign makes each position of a region.
    """

    head_channels: int = 1024
    proposals_training: int = 2000
    proposals: int = 1000
    rpn_samples: int = 256
    box_samples: int = 512
    positive_share: float = 0.25
    sampling_ratio: int = 2


@dataclass(frozen=True)
class MaskOptions(RegionOptions):
    """Further options of detectors with masks.

    Attributes:
        mask_channels: of the convolutions that make masks.
    """

    mask_channels: int = 256


@dataclass(frozen=True)
class CascadeOptions(MaskOptions):
    """Further options of a cascade.

    Attributes:
        box_convs: convolutions before the fully connected layer of each stage.
        box_loss: ``"smooth_l1"`` of the coded distances, or ``"giou"`` of the boxes themselves.
    """

    box_convs: int = 4
    box_loss: str = "smooth_l1"


def make_options(kind: type[Options], head: str, arguments: Mapping[str, Any]) -> Options:
    """The options of a head, from what a user wrote."""
    known = [entry.name for entry in fields(kind)]
    foreign = sorted(set(arguments) - set(known))
    if foreign:
        raise UserError(f"{head} takes {', '.join(known)}, got {', '.join(foreign)}; correct the name")
    return kind(**arguments)
