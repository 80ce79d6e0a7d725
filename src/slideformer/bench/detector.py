# SPDX-License-Identifier: Apache-2.0
"""A detector over several backbones: time of a step and of the backbone in it, and memory of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from slideformer.bench.candidate import Candidate, Setting, Step
from slideformer.bench.machine import Facts, headline
from slideformer.bench.measurement import Groups, Measurement
from slideformer.bench.table import Table, mebibytes, milliseconds, span
from slideformer.dense.counts import COCO_CLASSES, count_detector
from slideformer.dense.detector import create_detector
from slideformer.models import reparameterize

BACKBONE = ", backbone alone"
# Objects in every image of a training step: COCO has seven or eight.
OBJECTS = 8


def detector_candidates(
    names: Sequence[str],
    head: str,
    side: int,
    batch: int,
    setting: Setting,
    *,
    grad_checkpointing: bool = False,
) -> list[Candidate]:
    """For each backbone the detector, then the backbone alone, on square images.

    A training step is that of AdamW on random objects, always the same; a forward pass is one in evaluation,
    merged, in which the untrained heads find next to nothing. The backbone's part of a training step is its
    forward pass and the gradients of its parameters.

    Raises:
        UserError: there is no such head or backbone.
    """
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, side, side, generator=generator).to(setting.device) for _ in range(batch)]
    targets = [random_objects(side, generator, setting.device) for _ in range(batch)]
    train = setting.work == "step"
    candidates = []
    for name in names:
        setting.progress(f"building {head} over {name}")
        torch.manual_seed(0)
        detector = create_detector(
            head, name, COCO_CLASSES, grad_checkpointing=grad_checkpointing, min_size=side, max_size=side
        ).eval()
        counts = count_detector(head, name, (side, side))
        detector = (detector if train else reparameterize(detector)).to(setting.device).train(train)
        step = (
            training_step(detector, images, targets, setting)
            if train
            else detection(detector, images, setting)
        )
        features: nn.Module = detector.backbone.features  # type: ignore[union-attr, assignment]
        alone = backbone_step(features, torch.stack(images), setting)
        each = batch * (6 if train else 2) / 1e9
        candidates += [
            Candidate(name, step, each * counts.total, None, batch, None),
            Candidate(f"{name}{BACKBONE}", alone, each * counts.multiply_adds["backbone"], None, batch, None),
        ]
    return candidates


def random_objects(side: int, generator: torch.Generator, device: str) -> dict[str, Tensor]:
    """Boxes of an eighth to a half of the image, each filled by its object."""
    sizes = side * (1 + 3 * torch.rand(OBJECTS, 2, generator=generator)) / 8
    corners = (side - sizes) * torch.rand(OBJECTS, 2, generator=generator)
    boxes = torch.cat([corners, corners + sizes], dim=1)
    masks = torch.zeros(OBJECTS, side, side, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    labels = torch.randint(1, COCO_CLASSES + 1, (OBJECTS,), generator=generator)
    return {"boxes": boxes.to(device), "labels": labels.to(device), "masks": masks.to(device)}


def training_step(
    detector: nn.Module, images: list[Tensor], targets: list[dict[str, Tensor]], setting: Setting
) -> Step:
    """A step of AdamW, with always the same random choice of proposals."""
    parameters = [p for p in detector.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    def step() -> Sequence[Tensor]:
        torch.manual_seed(0)
        with setting.autocast():
            losses = detector(images, targets)
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        optimiser.zero_grad()
        return ()

    return step


def detection(detector: nn.Module, images: list[Tensor], setting: Setting) -> Step:
    """A forward pass in evaluation."""

    def step() -> Sequence[Tensor]:
        with torch.inference_mode(), setting.autocast():
            found = detector(images)
        return [x for detection in found for x in detection.values()]

    return step


def backbone_step(features: nn.Module, images: Tensor, setting: Setting) -> Step:
    """The maps of the backbone, or in training the gradients of its parameters from all of them."""
    parameters = [p for p in features.parameters() if p.requires_grad]

    def forward() -> Sequence[Tensor]:
        with torch.inference_mode(), setting.autocast():
            return list(features(images))

    def backward() -> Sequence[Tensor]:
        with setting.autocast():
            maps = features(images)
        loss = torch.stack([x.float().square().mean() for x in maps]).sum()
        return [x for x in torch.autograd.grad(loss, parameters, allow_unused=True) if x is not None]

    return backward if setting.work == "step" else forward


Cell = Callable[[Measurement, Measurement, Measurement], str]
COLUMNS: dict[str, Cell] = {
    "backbone": lambda first, row, alone: row.name,
    "ms": lambda first, row, alone: milliseconds(row.median_ms),
    "quartiles ms": lambda first, row, alone: span(row.quartiles_ms),
    "backbone alone ms": lambda first, row, alone: milliseconds(alone.median_ms),
    "its quartiles ms": lambda first, row, alone: span(alone.quartiles_ms),
    "backbone x first": lambda first, row, alone: f"{first.median_ms / alone.median_ms:.2f}",
    "GFLOP": lambda first, row, alone: f"{row.gflop:.0f}",
    "extra MiB": lambda first, row, alone: mebibytes(row.memory_mib),
    "process MiB": lambda first, row, alone: mebibytes(row.process_mib),
}


def detector_table(result: Groups, facts: Facts) -> Table:
    """One line a backbone, whose time alone is compared with that of the first."""
    rows = [
        [cell(group.rows[1], row, alone) for cell in COLUMNS.values()]
        for group in result.groups
        for row, alone in zip(group.rows[::2], group.rows[1::2], strict=True)
    ]
    return Table(list(COLUMNS), rows, headline(facts, result.groups[-1].machine))
