# SPDX-License-Identifier: Apache-2.0
"""Runs and records for cards, made without a training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from slideformer.runs import Blueprint, Run
from slideformer.tasks.model_card.record import Record

BLUEPRINTS = {
    "classify": Blueprint("classify", "slide_swin_nano", 3),
    "detect": Blueprint("detect", "slide_pvt_v2_b1", 3, "mask_rcnn"),
    "segment": Blueprint("segment", "slide_swin_nano", 3, "upernet"),
}
FIGURES = {
    "classify": {"top1": 0.75, "top5": 1.0, "loss": 0.5},
    "detect": {"box_AP": 0.25, "box_AP50": 0.5, "mask_AP": 0.125},
    "segment": {"miou": 0.5, "macc": 0.625, "aacc": 0.75, "loss": 1.5},
}
RECORD = Record(
    epoch=3,
    epochs=4,
    chosen_by="top-1 on the hold-out",
    candidates=3,
    average=False,
    data="photos",
    dataset="",
    train_images=24,
    val_images=9,
    parameters=1_430_000,
    recipe={"optimiser": "adamw", "learning rate": "0.001"},
    weights="random",
    base_model="",
    teacher="",
    device="1 x CPU with 2 threads",
    images_per_second=123.4,
    versions={"slideformer": "0.1.0", "timm": "1.0"},
    command="slideformer train --data photos --output mine",
)


def example_run(task: str, *names: str) -> Run:
    """The metadata of a run with three classes."""
    return Run(model=nn.Module(), blueprint=BLUEPRINTS[task], class_names=names or ("ant", "bee", "cat"))


def example_record(task: str, **changes: Any) -> Record:
    """The record of a training of a task."""
    return replace(RECORD, **{"figures": FIGURES[task], **changes})
