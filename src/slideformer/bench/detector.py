# SPDX-License-Identifier: Apache-2.0
"""A detector over several backbones: time of a step and of the backbone in it, and memory of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from slideformer.bench.candidate import Candidate, Setting
from slideformer.bench.measurement import Group, Measurement
from slideformer.bench.report import aligned, headline, mebibytes, milliseconds, piped, span, to_dict
from slideformer.models import reparameterize
from slideformer.models.dense.detector import create_detector
from slideformer.models.dense.detector_counts import CLASSES, count_detector

KIND = "detector"
BACKBONE = ", backbone alone"
# Objects in every picture of a training step: COCO has seven or eight.
OBJECTS = 8


def detector_candidates(
    names: Sequence[str],
    head: str,
    side: int,
    batch: int,
    setting: Setting,
    *,
    grad_checkpointing: bool = False,
    progress: Callable[[str], None] = lambda words: None,
) -> list[Candidate]:
    """For each backbone the detector, then the backbone by itself, on square pictures.

    A training step is that of AdamW on random objects, always the same; a forward pass is one in evaluation,
    merged, in which the untrained heads find next to nothing. The backbone's part of a training step is its
    forward pass and the gradients of its parameters.

    Raises:
        UserError: there is no such head or backbone.
    """
    generator = torch.Generator().manual_seed(0)
    pictures = [torch.rand(3, side, side, generator=generator).to(setting.device) for _ in range(batch)]
    targets = [random_objects(side, generator, setting.device) for _ in range(batch)]
    train = setting.work == "step"
    candidates = []
    for name in names:
        progress(f"building {head} over {name}")
        torch.manual_seed(0)
        detector = create_detector(
            head, name, CLASSES, grad_checkpointing=grad_checkpointing, min_size=side, max_size=side
        ).eval()
        counts = count_detector(head, name, (side, side))
        detector = (detector if train else reparameterize(detector)).to(setting.device).train(train)
        make = training_step if train else detection
        images = torch.stack(pictures)
        steps = {
            name: make(detector, pictures, targets, setting),
            f"{name}{BACKBONE}": backbone_step(detector.backbone.features, images, setting),  # type: ignore[union-attr, arg-type]
        }
        work = (counts.total, counts.multiply_adds["backbone"])
        for (label, step), multiply_adds in zip(steps.items(), work, strict=True):
            gflop = batch * multiply_adds * (6 if train else 2) / 1e9
            candidates.append(Candidate(label, step, gflop, None, batch, None))
    return candidates


def random_objects(side: int, generator: torch.Generator, device: str) -> dict[str, Tensor]:
    """Boxes from an eighth to a half of the picture, each full of its object."""
    sizes = side * (1 + 3 * torch.rand(OBJECTS, 2, generator=generator)) / 8
    corners = (side - sizes) * torch.rand(OBJECTS, 2, generator=generator)
    boxes = torch.cat([corners, corners + sizes], dim=1)
    masks = torch.zeros(OBJECTS, side, side, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    labels = torch.randint(1, CLASSES + 1, (OBJECTS,), generator=generator)
    return {"boxes": boxes.to(device), "labels": labels.to(device), "masks": masks.to(device)}


def training_step(
    detector: nn.Module, pictures: list[Tensor], targets: list[dict[str, Tensor]], setting: Setting
) -> Callable[[], Sequence[Tensor]]:
    """A step of AdamW, with always the same random choice of proposals."""
    optimiser = torch.optim.AdamW((p for p in detector.parameters() if p.requires_grad), lr=1e-4)

    def step() -> Sequence[Tensor]:
        torch.manual_seed(0)
        with autocast(setting):
            losses = detector(pictures, targets)
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        optimiser.zero_grad()
        return ()

    return step


def detection(
    detector: nn.Module, pictures: list[Tensor], targets: list[dict[str, Tensor]], setting: Setting
) -> Callable[[], Sequence[Tensor]]:
    """A forward pass in evaluation; the targets are of no use to it."""

    def step() -> Sequence[Tensor]:
        with torch.inference_mode(), autocast(setting):
            found = detector(pictures)
        return [x for detection in found for x in detection.values()]

    return step


def backbone_step(features: nn.Module, images: Tensor, setting: Setting) -> Callable[[], Sequence[Tensor]]:
    """The maps, and in training the gradients of the parameters from all of them."""
    parameters = [p for p in features.parameters() if p.requires_grad]

    def forward() -> Sequence[Tensor]:
        with torch.inference_mode(), autocast(setting):
            return list(features(images))

    def backward() -> Sequence[Tensor]:
        with autocast(setting):
            maps = features(images)
        loss = torch.stack([x.float().square().mean() for x in maps]).sum()
        return [x for x in torch.autograd.grad(loss, parameters, allow_unused=True) if x is not None]

    return backward if setting.work == "step" else forward


def autocast(setting: Setting) -> torch.autocast:
    """Half precision where the setting asks for it."""
    device = torch.device(setting.device).type
    return torch.autocast(device, setting.dtype, enabled=setting.dtype != torch.float32)


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


def detector_table(groups: Sequence[Group]) -> list[list[str]]:
    """Headings, then one line a backbone; times are compared with the first one's."""
    lines = [list(COLUMNS)]
    for group in groups:
        for row, alone in zip(group.rows[::2], group.rows[1::2], strict=True):
            lines.append([cell(group.rows[1], row, alone) for cell in COLUMNS.values()])
    return lines


def detector_markdown(groups: Sequence[Group], facts: Mapping[str, Any]) -> str:
    """A table for a page, its conditions below."""
    return "\n".join([*piped(detector_table(groups)), "", headline(facts, groups[-1].machine)])


def detector_text(groups: Sequence[Group], facts: Mapping[str, Any]) -> str:
    """An aligned table for a terminal, its conditions above."""
    return "\n".join([headline(facts, groups[-1].machine), "", *aligned(detector_table(groups))])


def detector_to_dict(groups: Sequence[Group], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions and figures as plain values."""
    return {"kind": KIND, **to_dict(groups, facts)}
