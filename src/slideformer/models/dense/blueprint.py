# SPDX-License-Identifier: Apache-2.0
"""What a dense model was built of, to build it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Blueprint:
    """The arguments of a builder; a model that can be saved has it as ``blueprint``.

    Attributes:
        task: ``"detect"`` or ``"segment"``.
        head: our name of the head, such as ``mask_rcnn``.
        backbone: timm's name of the backbone.
        num_classes: classes, without a background of the model's own.
        arguments: what else the builder was given, by name, as plain values.
    """

    task: str
    head: str
    backbone: str
    num_classes: int
    arguments: Mapping[str, Any]
