# SPDX-License-Identifier: Apache-2.0
"""The demos of detection and segmentation: the very commands that a user would type, one after another."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from slideformer.console import print_line

# Held-out pictures in the picture of predictions.
SHOWN = 12


def detections(figures: Mapping[str, Any]) -> list[str]:
    """Boxes and masks."""
    return [
        f"{kind} AP50 on {figures['images']} held-out pictures   {100 * figures[kind]['AP50']:.1f} %"
        for kind in ("box", "mask")
    ]


def segmentations(figures: Mapping[str, Any]) -> list[str]:
    """Classes of pixels."""
    return [f"mIoU on {figures['pictures']} held-out pictures   {100 * figures['miou']:.1f} %"]


# Task -> the lines that tell what was reached, of what stands in evaluation.json.
REACHED: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "detect": detections,
    "segment": segmentations,
}


def run_demo(task: str, folder: Path, epochs: int | None) -> int:
    """Generate scenes, train, evaluate, predict and draw.

    Args:
        task: a name in `REACHED`.
        folder: empty.
        epochs: of the training; the recipe's where None.
    """
    from slideformer.viz import picture_grid, training_curves

    data, trained, drawn = folder / "data", folder / "run", folder / "predictions"
    say("scenes", str(data))
    start = time.perf_counter()
    short = (
        [] if epochs is None else [f"--trainer.max_epochs={epochs}", "--model.optimise.warmup_epochs=null"]
    )
    say("train", task, "--config", "scenes", "--data", str(data), "--output", str(trained), *short)
    seconds = time.perf_counter() - start
    say("evaluate", str(trained), "--data", str(data))
    pictures = sorted(str(path) for path in (data / "val").iterdir())[:SHOWN]
    say("predict", str(trained), *pictures, "--output", str(drawn))
    picture_grid([drawn / f"{Path(path).stem}.png" for path in pictures], folder / "predictions.png")
    training_curves(trained / "metrics.csv", folder / "curves.png")
    print()
    for line in REACHED[task](json.loads((trained / "evaluation.json").read_text(encoding="utf-8"))):
        print(line)
    print(f"training   {seconds:.0f} s")
    print_line(f"pictures   {folder / 'predictions.png'}, {folder / 'curves.png'}, {drawn}")
    return 0


def say(*words: str) -> None:
    """Print a command and run it.

    Raises:
        UserError: the command fails, or a package that it needs is not installed.
    """
    from slideformer.cli.main import dispatch

    print()
    print_line(f"$ slideformer {shlex.join(words)}")
    dispatch(words)
