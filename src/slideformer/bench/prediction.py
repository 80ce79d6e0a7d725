# SPDX-License-Identifier: Apache-2.0
"""Prediction on a folder of photographs, compared with the model alone on inputs that are ready."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from slideformer.bench.candidate import Candidate, Setting, count_gflop
from slideformer.runs import EvalTransform, named_run, placed
from slideformer.tasks.images import find_images, read_image
from slideformer.tasks.predict import predict
from slideformer.tasks.scenes.photographs import background, load_photographs

QUALITY = 90


def write_photographs(folder: Path, count: int, side: int, setting: Setting) -> None:
    """Write square JPEGs, parts of real photographs, the same at every call."""
    photographs, random = load_photographs("train"), np.random.default_rng(0)
    for number in range(count):
        setting.progress(f"photograph {number + 1} of {count}")
        pixels = background(photographs[number % len(photographs)], side, random)
        image = Image.fromarray((255 * pixels).round().astype(np.uint8))
        image.save(folder / f"{number:05}.jpg", quality=QUALITY)


def prediction_candidates(name: str, folder: Path, batch: int, setting: Setting) -> list[Candidate]:
    """The model alone, merged, on as many images as a folder has, then `slideformer.predict` on the folder.

    Args:
        name: of a classifier, timm's, with random weights.
        folder: of photographs.
        batch: images a batch, of both.
        setting: device and dtype, of both.

    Raises:
        UserError: there is no such model.
    """
    run, paths = named_run(name), find_images([str(folder)])
    assert run.preprocessing is not None  # every classifier has it
    precision = str(setting.dtype).removeprefix("torch.")
    ready = placed(run, device=setting.device, precision=precision, merge=True).model
    transform = EvalTransform(run.preprocessing)
    inputs = torch.stack([transform(read_image(path)) for path in paths[:batch]]).to(setting.device)

    def alone() -> Sequence[Tensor]:
        for first in range(0, len(paths), batch):
            ready(inputs[: len(paths) - first])
        return ()

    def on_folder() -> Sequence[Tensor]:
        results = predict(
            run,
            folder,
            device=setting.device,
            batch_size=batch,
            num_workers="auto",
            precision=precision,
        )
        for _ in results:
            pass
        return ()

    gflop = len(paths) * count_gflop(run.model, inputs[:1].cpu(), setting)
    steps = {"model alone": alone, "predict": on_folder}
    return [Candidate(words, step, gflop, None, len(paths), None) for words, step in steps.items()]
