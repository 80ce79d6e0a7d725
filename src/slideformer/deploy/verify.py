# SPDX-License-Identifier: Apache-2.0
"""Whether an exported file computes what the model does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from slideformer.deploy.card import Card
from slideformer.deploy.detections import DetectionDifference, compare_detections
from slideformer.deploy.runtimes import Runtime
from slideformer.deploy.runtimes.session import Run
from slideformer.errors import UserError
from slideformer.models.finite import check_finite


@dataclass(frozen=True)
class Difference:
    """How far file and model are apart on one input.

    Attributes:
        batch: images.
        height: of the images, in pixels.
        width: of the images, in pixels.
        largest: largest difference of a logit, relative to the largest logit; not a number where either is.
        mean: mean difference, relative to the same.
        agreement: share of the images, a segmenter's of the pixels, with the same likeliest class.
    """

    batch: int
    height: int
    width: int
    largest: float
    mean: float
    agreement: float


@dataclass(frozen=True)
class Tolerance:
    """What a precision may change.

    Attributes:
        largest: largest difference of a logit, relative to the largest logit.
        mean: mean difference, relative to the same.
    """

    largest: float
    mean: float


# Sums in another order; numbers of 11 bits; numbers of 8 bits.
TOLERANCES = {
    "float32": Tolerance(largest=1e-4, mean=1e-4),
    "float16": Tolerance(largest=2e-2, mean=5e-3),
    "int8": Tolerance(largest=0.5, mean=0.1),
}
# The share of a detector's boxes that may be others: of two that overlap and whose scores are equal but for
# rounding, either may be kept.
UNMATCHED = 0.05


@dataclass(frozen=True)
class Report:
    """What was checked.

    Attributes:
        card: what the file says of itself.
        ran: whether it ran; if not, only its structure was looked at.
        differences: a row an input.
        detections: the same of a detector.
        faults: of the structure, where nothing ran.
    """

    card: Card
    ran: bool
    differences: list[Difference] = field(default_factory=list)
    detections: list[DetectionDifference] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def fault(self) -> str | None:
        """Why the file does not pass, as a sentence; None where it does."""
        if self.faults:
            return f"the file must be one that its runtime takes, but {self.faults[0]}"
        limit = TOLERANCES[self.card.precision]
        for row in self.differences:
            # Not a number compares as false with everything: ask for what must hold.
            if not (row.largest <= limit.largest and row.mean <= limit.mean):
                return (
                    f"the exported file must agree with the model to {limit.largest:.0e} of its largest "
                    f"logit, {limit.mean:.0e} in the mean, got {row.largest:.2e} and {row.mean:.2e} at "
                    f"{row.batch} x {row.height} x {row.width}"
                )
        for found in self.detections:
            if not (found.score <= limit.largest and found.unmatched <= UNMATCHED * found.detections):
                return (
                    f"the exported file must agree with the model to {limit.largest:.0e}, got scores that "
                    f"differ by {found.score:.2e} and {found.unmatched} of {found.detections} boxes that are "
                    f"not the model's at {found.height} x {found.width}"
                )
        return None


def verify(
    runtime: Runtime,
    file: Path,
    model: nn.Module,
    inputs: Sequence[Tensor],
    *,
    threads: int | None = None,
) -> Report:
    """Run a file in its runtime beside the PyTorch model.

    Args:
        runtime: of the file.
        file: exported.
        model: what it was exported from, in evaluation mode; of a detector its graph.
        inputs: ``(B, channels, height, width)``, prepared as the model wants them.
        threads: of the runtime; None for all.

    Raises:
        UserError: the file is broken, none of ours, or takes no input of one of these sizes, or an answer
            is not finite.
    """
    card = runtime.card(file)
    if not runtime.runs_here:
        return Report(card, ran=False, faults=runtime.implementation.faults(file))
    run = runtime.open_file(file, threads)
    for image in inputs:
        refuse_size(card, file, image)
    if card.task == "detect":
        return Report(card, ran=True, detections=[detection(run, model, image) for image in inputs])
    return Report(card, ran=True, differences=[difference(run, model, image) for image in inputs])


def refuse_size(card: Card, file: Path, image: Tensor) -> None:
    """Refuse an input that a file of fixed size does not take.

    Raises:
        UserError: says which it takes.
    """
    batch, _, *side = image.shape
    given = (batch, *side)
    if card.sizes.of(*given) != given:
        raise UserError(
            f"{file} takes inputs of {card.sizes} (batch x height x width), got "
            f"{' x '.join(map(str, given))}; export it for this size"
        )


def answers_like(wanted: Sequence[Tensor], found: Sequence[Tensor]) -> Sequence[Tensor]:
    """What a file gives, if it has the form of what its model gives; detectors may find more or fewer.

    Raises:
        UserError: it is another number of tensors, or one has another shape.
    """
    forms = [
        [tuple(x.shape) if len(wanted) == 1 else (x.ndim, *x.shape[1:]) for x in xs] for xs in (wanted, found)
    ]
    if forms[0] != forms[1]:
        shapes = ["; ".join(str(tuple(x.shape)) for x in xs) for xs in (wanted, found)]
        raise UserError(f"the file must give answers of shapes {shapes[0]}, got {shapes[1]}; export it again")
    return found


@torch.inference_mode()
def difference(run: Run, model: nn.Module, image: Tensor) -> Difference:
    """How far the logits of file and model are apart."""
    wanted = model(image)
    found = answers_like([wanted], run(image))[0]
    check_finite(wanted)
    scale = float(wanted.abs().max())
    apart = (found - wanted).abs() / scale
    same = (found.argmax(1) == wanted.argmax(1)).float().mean()
    batch, _, height, width = image.shape
    return Difference(batch, height, width, float(apart.max()), float(apart.mean()), float(same))


@torch.inference_mode()
def detection(run: Run, graph: nn.Module, image: Tensor) -> DetectionDifference:
    """How far file and model are apart in what they find in one picture."""
    height, width = image.shape[-2:]
    wanted = graph(image)
    found = answers_like(wanted, run(image))
    check_finite(wanted)
    return compare_detections(height, width, found, wanted)


def check_sizes(height: int, width: int) -> tuple[tuple[int, int, int], ...]:
    """Three inputs to check with: the model's own size, a wide and an odd high one, in other batches."""
    return (1, height, width), (2, height * 5 // 4, width * 3 // 2), (3, height * 11 // 8 + 1, width)
