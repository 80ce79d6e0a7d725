# SPDX-License-Identifier: Apache-2.0
"""Saved runs, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from slideformer.runs import Blueprint, Run, open_run, save_run
from slideformer.runs.classifier import classifier_run


def save_classifier(
    model: nn.Module,
    folder: str | Path,
    *,
    class_names: Sequence[str] = (),
    arguments: dict[str, Any] | None = None,
    **preprocessing: Any,
) -> None:
    """Save a classifier of timm's registry."""
    run = classifier_run(model, class_names=class_names, arguments=arguments)
    assert run.preprocessing is not None
    save_run(replace(run, preprocessing=replace(run.preprocessing, **preprocessing)), folder)


def save_dense(
    model: nn.Module,
    folder: str | Path,
    *,
    task: Any = "detect",
    head: str = "retinanet",
    classes: int = 3,
    arguments: dict[str, Any] | None = None,
    **facts: Any,
) -> None:
    """Save a detector or segmenter over the smallest backbone."""
    blueprint = Blueprint(task, "slide_swin_nano", classes, head, arguments or {})
    save_run(Run(model=model, blueprint=blueprint, **facts), folder)


def opened(folder: str | Path) -> tuple[nn.Module, Run]:
    """The model of a run, and the run."""
    run = open_run(folder)
    return run.model, run
