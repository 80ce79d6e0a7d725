# SPDX-License-Identifier: Apache-2.0
"""Comparing an exported file with its model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from slideformer.deploy.attention import AttentionGraph
from slideformer.deploy.card import Card, fingerprint
from slideformer.deploy.detections import (
    DetectionDifference,
    compare_images,
    detection_fault,
    detection_lines,
)
from slideformer.deploy.inputs import CHECKED, read_images, stretched
from slideformer.deploy.job import Session
from slideformer.deploy.runtimes import Runtime, of_file
from slideformer.errors import UserError
from slideformer.models.finite import check_finite
from slideformer.runs import Run, check_has_weights
from slideformer.tasks.given import Source, find_sources


@dataclass(frozen=True)
class Difference:
    """The difference of file and model on one input.

    Attributes:
        batch: images.
        height: of the images, in pixels.
        width: of the images, in pixels.
        largest: largest difference of a logit, relative to the largest logit; not a number where either is.
        mean: mean difference, relative to the same.
        agreement: share of the images, a segmenter's of the pixels, with the same likeliest class.
        attention: largest difference of an attention weight; None where the file does not give them.
    """

    batch: int
    height: int
    width: int
    largest: float
    mean: float
    agreement: float
    attention: float | None = None


@dataclass(frozen=True)
class Tolerance:
    """The differences that a precision may cause.

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


@dataclass(frozen=True)
class Report:
    """The differences between an exported file and its model; printed, a table.

    Attributes:
        card: the metadata of the file.
        ran: whether it ran; if not, only its structure was checked.
        differences: a row an input.
        detections: the same of a detector.
        faults: of the structure, where nothing ran.
        file: the file that was checked.
    """

    card: Card
    ran: bool
    differences: list[Difference] = field(default_factory=list)
    detections: list[DetectionDifference] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    file: Path = Path()

    def __str__(self) -> str:
        """One line a size that was checked."""
        card = self.card
        lines = [f"{card.task}, {card.precision}, slide attention as {card.form}, inputs of {card.sizes}"]
        if not self.ran and not self.faults:
            lines.append("converted, not run: its runtime is not on this system; its structure is sound")
        weights = f"{'attention':>12}" if card.attention else ""
        if self.differences:
            heads = f"{'largest difference':>20}{'mean':>12}{'same top-1':>12}{weights}"
            lines.append(f"{'batch x height x width':<24}{heads}")
        for row in self.differences:
            size = f"{row.batch} x {row.height} x {row.width}"
            weights = "" if row.attention is None else f"{row.attention:>12.2e}"
            lines.append(
                f"{size:<24}{row.largest:>20.2e}{row.mean:>12.2e}{100 * row.agreement:>10.1f} %{weights}"
            )
        lines += detection_lines(self.detections)
        return "\n".join(lines)

    @property
    def file_mib(self) -> float:
        """Size of the file with its weights, in MiB."""
        return mebibytes(self.file)

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
            if row.attention is not None and not row.attention <= limit.largest:
                return (
                    f"the attention weights of the file must agree with the model's to {limit.largest:.0e}, "
                    f"got {row.attention:.2e} at {row.batch} x {row.height} x {row.width}"
                )
        return detection_fault(self.detections)


def verify(
    runtime: Runtime,
    file: Path,
    model: nn.Module,
    inputs: Sequence[Tensor],
    *,
    threads: int | None = None,
) -> Report:
    """Run a file in its runtime and compare it with the PyTorch model.

    Args:
        runtime: of the file.
        file: exported.
        model: what it was exported from, in evaluation mode.
        inputs: ``(B, channels, height, width)``, prepared as the model wants them.
        threads: of the runtime; None for all.

    Raises:
        UserError: the file is broken, not of slideformer, or does not take one of these sizes, or an
            output is not finite.
    """
    card = runtime.card(file)
    if not runtime.runs_here:
        return Report(card, ran=False, faults=runtime.faults(file), file=file)
    session = runtime.open_file(file, threads)
    for image in inputs:
        check_size(card, file, image)
    if card.task == "detect":
        return Report(card, ran=True, detections=compare_images(session, model, inputs), file=file)
    compared = AttentionGraph(model) if card.attention else model
    return Report(
        card, ran=True, differences=[difference(session, compared, image) for image in inputs], file=file
    )


def verify_run(
    run: Run,
    file: Path,
    *,
    images: Sequence[Source] = (),
    sizes: Sequence[tuple[int, int]] | None = None,
    threads: int | None = None,
) -> Report:
    """Run an exported file in its runtime and compare it with the run that it was exported from.

    Args:
        run: from `slideformer.open_run`.
        file: exported.
        images: to run; default: photographs.
        sizes: height and width of each input; default: several that the file takes.
        threads: of the runtime; None for all.

    Raises:
        UserError: the file is broken, was exported from another model, or does not take a size.
    """
    check_has_weights(run)
    runtime = of_file(file)
    card = runtime.card(file)
    if run.task != card.task:
        raise UserError(f"{file} must have its model's task, {run.task}, got {card.task}; export it again")
    if fingerprint(run.model) != card.weights:
        raise UserError(
            f"{file} must be exported from the model it is compared with, but its weights are others; "
            "give its own with `model`, or export it again"
        )
    if sizes is None:
        shapes = [card.sizes.of(*shape) for shape in check_sizes(*run.input_size[1:])]
    else:
        batch = 1 if card.sizes.batch is None else card.sizes.batch
        shapes = [(batch, *size) for size in sizes]
    shown = read_images(images, CHECKED)
    inputs = [stretched(shown, run.preprocessing, shape) for shape in dict.fromkeys(shapes)]
    return verify(runtime, file, run.model, inputs, threads=threads)


def verify_images(
    run: Run, file: Path, sources: Sequence[Source], *, threads: int | None = None
) -> list[DetectionDifference]:
    """Compare the detections of an exported file and of its run in many images, each in its own size.

    Args:
        run: from `slideformer.open_run`.
        file: exported from it.
        sources: paths, folders, globs, images of Pillow or arrays.
        threads: of the runtime; None for all.

    Raises:
        UserError: the file is broken, or does not take an image; or an image cannot be read.
    """
    runtime = of_file(file)
    card = runtime.card(file)

    def inputs() -> Iterator[Tensor]:
        for source in find_sources(sources):
            (shown,) = read_images([source], 1)
            image = stretched([shown], None, (1, shown.height, shown.width))
            check_size(card, file, image)
            yield image

    return compare_images(runtime.open_file(file, threads), run.model, inputs())


def mebibytes(file: Path) -> float:
    """Size of a file with the weights next to it, or of a folder, in MiB."""
    parts = [file, *([file.with_suffix(".bin")] if file.suffix == ".xml" else [])]
    files = [entry for part in parts for entry in ([part] if part.is_file() else part.rglob("*"))]
    return sum(entry.stat().st_size for entry in files if entry.is_file()) / 2**20


def check_size(card: Card, file: Path, image: Tensor) -> None:
    """Check that a file takes an input of this size."""
    batch, _, *side = image.shape
    given = (batch, *side)
    if card.sizes.of(*given) != given:
        raise UserError(
            f"{file} takes inputs of {card.sizes} (batch x height x width), got "
            f"{' x '.join(map(str, given))}; export it for this size"
        )


def outputs_like(wanted: Sequence[Tensor], found: Sequence[Tensor]) -> Sequence[Tensor]:
    """Check that the outputs have the shapes of the model's."""
    if [x.shape for x in found] != [x.shape for x in wanted]:
        shapes, given = ("; ".join(str(tuple(x.shape)) for x in outputs) for outputs in (wanted, found))
        raise UserError(f"the file must give answers of shape {shapes}, got {given}; export it again")
    return found


@torch.inference_mode()
def difference(session: Session, model: nn.Module, image: Tensor) -> Difference:
    """Compare the outputs of file and model: logits, and the attention weights of an `AttentionGraph`."""
    answers = model(image)
    wanted, *weights = (answers,) if isinstance(answers, Tensor) else answers
    found, *others = outputs_like([wanted, *weights], session(image))
    check_finite(wanted)
    scale = float(wanted.abs().max())
    apart = (found - wanted).abs() / scale
    same = (found.argmax(1) == wanted.argmax(1)).float().mean()
    batch, _, height, width = image.shape
    attention = [float((one - other).abs().max()) for one, other in zip(weights, others, strict=True)]
    return Difference(
        batch,
        height,
        width,
        float(apart.max()),
        float(apart.mean()),
        float(same),
        # A maximum of Python's would leave out what is not a number.
        float(torch.tensor(attention).max()) if attention else None,
    )


def check_sizes(height: int, width: int) -> tuple[tuple[int, int, int], ...]:
    """Three inputs to check with: the model's own size, a wide and an odd high one, in other batches."""
    return (1, height, width), (2, height * 5 // 4, width * 3 // 2), (3, height * 11 // 8 + 1, width)
