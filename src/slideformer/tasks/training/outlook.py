# SPDX-License-Identifier: Apache-2.0
"""The outlook of a training at its beginning: how many updates it will be, and how much memory it takes."""

from __future__ import annotations

from typing import Any, cast

import lightning as L

from slideformer.models.memory import available_bytes, training_bytes
from slideformer.tasks.training.data import ImageData
from slideformer.tasks.training.learner import Learner

# A schedule with fewer updates hardly moves the weights.
FEW_UPDATES = 200


def outlook(trainer: L.Trainer, module: Learner, data: ImageData) -> list[str]:
    """Lines on updates and memory, with what to change where they are too few or too much."""
    lines = [updates(trainer, module.images_per_update(), data.batch_size), memory(module, data)]
    return [line for line in lines if line]


def updates(trainer: L.Trainer, batch: int, batch_size: int) -> str:
    """How many updates the training will be, and what to change where they are few.

    Args:
        trainer: of the training, at its beginning.
        batch: images an update.
        batch_size: images a batch and device.
    """
    total, epochs = int(trainer.estimated_stepping_batches), trainer.max_epochs or 1
    images = len(cast("Any", trainer.train_dataloader).dataset)
    each = f"{max(1, total // epochs)} update{'' if total // epochs <= 1 else 's'} an epoch"
    line = f"{images} images, {batch} an update: {each}, {total} in all"
    if total >= FEW_UPDATES:
        return line
    smaller = max(1, images // 8)
    hint = f"`batch_size` {smaller} or " if 2 * smaller <= batch_size else ""
    hint = "`accumulate_grad_batches` 1 or " if trainer.accumulate_grad_batches > 1 else hint
    return f"{line}, which is few; try {hint}`max_epochs` above {epochs}"


def memory(module: Learner, data: ImageData) -> str:
    """How much memory a step takes at least, compared with what is free; empty where that is not known."""
    free = available_bytes(str(module.device))
    try:
        needed = float(training_bytes(module.over_images, (data.batch_size, 3, *data.train_size)))
    # Models of timm's fail on the device "meta" in ways of their own; a forecast must not stop a training.
    except (RuntimeError, TypeError, ValueError, AssertionError):
        return ""
    if str(module.trainer.precision).startswith(("16", "bf16")):
        needed /= 2
    if free == float("inf"):
        return f"a step takes at least {gib(needed)} of memory"
    line = f"a step takes at least {gib(needed)} of memory, of {gib(free)} that are free"
    if needed < free:
        return line
    smaller = max(1, int(data.batch_size * free / needed / 2))
    return f"{line}, which is not enough; try `batch_size` {smaller}, or `grad_checkpointing` if it is off"


def gib(count: float) -> str:
    """Bytes for a reader."""
    return f"{count / 2**30:.1f} GiB"
