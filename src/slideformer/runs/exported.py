# SPDX-License-Identifier: Apache-2.0
"""Exported files as runs: slideformer-runtime runs them, so that what takes a run takes them, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from slideformer.errors import UserError
from slideformer.models.finite import check_finite
from slideformer.runs.fields import VAL_FRACTION, check_fields, parse_json
from slideformer.runs.preprocessing import Preprocessing
from slideformer.runs.run import Blueprint, Run, TaskName

if TYPE_CHECKING:
    from slideformer_runtime.facts import Facts

# Endings of files that slideformer-runtime runs -> the extra of it that installs the engine.
EXTRAS = {".onnx": "onnx", ".xml": "openvino"}
# What a detector's outputs are called in torchvision.
FOUND = ("boxes", "scores", "labels", "masks")


class Exported(nn.Module):
    """An exported file as a model in evaluation mode; it has no weights of PyTorch, and runs on the CPU.

    Args:
        file: that ``slideformer export`` wrote.

    Attributes:
        facts: the file's metadata.
        num_classes: number of classes; 0 if unknown.
        val_fraction: of each class of a classifier's folder that the training held out; None for none.
        score_thresh: of a detector, objects are given whose score is above it, as of torchvision's heads.

    Raises:
        UserError: the file cannot be read, is not of slideformer, or needs a package that is not installed.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        if file.suffix.lower() not in EXTRAS:
            raise UserError(
                f"{file} must be the folder of a run, or a file that `slideformer export` wrote, ending "
                f"in {' or '.join(EXTRAS)}; check the path"
            )
        with runtime_errors(file):
            from slideformer_runtime.engines import open_file
            from slideformer_runtime.facts import read_facts
            from slideformer_runtime.masks import paste
            from slideformer_runtime.tasks import find_task

            texts, self.run = open_file(file, None)
            self.facts: Facts = read_facts(texts, str(file))
            self.task, self.paste = find_task(self.facts.task), paste
        self.file, self.score_thresh = file, -inf
        self.val_fraction = read_val_fraction(texts, file)
        stated = texts.get("num_classes", "")
        named = max(len(self.facts.class_names), len(self.facts.category_ids or ()))
        self.num_classes = named or (int(stated) if stated.isdecimal() and len(stated) < 8 else 0)
        if self.facts.task != "classify" and not self.num_classes:
            raise UserError(f"{file} must say how many classes it has, but does not; export it again")
        self.eval()

    def forward(self, images: Tensor | list[Tensor]) -> Tensor | list[dict[str, Tensor]]:
        """Logits of images ``(B, 3, height, width)``, or what a detector finds in each of a list."""
        if isinstance(images, list):
            return [self.objects(image) for image in images]
        # A file may take only one number of images.
        most = len(images) if self.facts.batch is None else self.facts.batch
        return torch.cat([self.logits(part, most) for part in images.split(most)])

    def objects(self, image: Tensor) -> dict[str, Tensor]:
        """The objects in an image ``(3, height, width)``, as a detector of PyTorch gives them."""
        outputs = self.outputs(image[None])
        check_finite(outputs)
        sure = outputs[1] > self.score_thresh
        found = {name: x[sure] for name, x in zip(FOUND, outputs, strict=False)}
        if "masks" in found:
            # Each is as large as the image: as bool a quarter of the probabilities of torchvision.
            masks = self.paste(found["masks"].numpy(), found["boxes"].numpy(), image.shape[1:])
            found["masks"] = torch.from_numpy(masks)[:, None]
        return found

    def logits(self, images: Tensor, batch: int) -> Tensor:
        """Logits of at most ``batch`` images: of fewer with black ones, which are dropped."""
        missing = images.new_zeros(batch - len(images), *images.shape[1:])
        return self.outputs(torch.cat([images, missing]))[0][: len(images)]

    def outputs(self, images: Tensor) -> list[Tensor]:
        """All outputs of the file for one input."""
        with runtime_errors(self.file):
            found = self.run(np.ascontiguousarray(images.numpy()))
            self.task.check(found, tuple(images.shape), str(self.file))
        self.check_classes(found)
        return [torch.from_numpy(np.ascontiguousarray(x)) for x in found]

    def check_classes(self, found: Sequence[NDArray[np.generic]]) -> None:
        """Check that outputs have the classes that the metadata say."""
        if self.facts.task == "detect":
            labels = np.asarray(found[2], dtype=np.int64)
            fits = labels.min(initial=1) >= 1 and labels.max(initial=1) <= self.num_classes
        else:
            fits = self.num_classes in (0, found[0].shape[1])
        if not fits:
            raise UserError(
                f"{self.file} must have outputs of the {self.num_classes} classes in its metadata, but has "
                "others; export it again"
            )


def open_exported(file: Path) -> Run:
    """The run of an exported file.

    Raises:
        UserError: as of `Exported`.
    """
    model = Exported(file)
    facts, how = model.facts, model.facts.preprocessing
    head, _, backbone = facts.architecture.rpartition(" over ")
    sides = facts.height, facts.width
    return Run(
        model=model,
        blueprint=Blueprint(cast("TaskName", facts.task), backbone, model.num_classes, head),
        class_names=facts.class_names,
        category_ids=facts.category_ids,
        preprocessing=None if how is None else Preprocessing(**vars(how)),
        val_fraction=model.val_fraction,
        only_size=None if None in sides else cast("tuple[int, int]", sides),
        folder=file,
    )


def read_val_fraction(texts: Mapping[str, str], file: Path) -> float | None:
    """The part of each class that the training held out, from a file's metadata; None for none."""
    try:
        value = parse_json(texts.get("val_fraction", "null"))
    except ValueError as error:
        raise UserError(f"val_fraction of {file} must be a number, but {error}; export it again") from error
    known = check_fields({"val_fraction": value}, {"val_fraction": VAL_FRACTION}, file)
    return cast("float | None", known["val_fraction"])


def check_has_weights(run: Run) -> None:
    """Check that a run is more than an exported file.

    Raises:
        UserError: it is an exported file.
    """
    if isinstance(run.model, Exported):
        raise UserError(
            f"a run must have its weights, got the exported file {run.name}; give the folder of the run that "
            "it was exported from"
        )


@contextmanager
def runtime_errors(file: Path) -> Iterator[None]:
    """Make slideformer-runtime's errors for a file those of slideformer.

    Raises:
        UserError: it raises its own, or is not installed, or lacks a module, as an older one does.
    """
    try:
        from slideformer_runtime.errors import UserError as RuntimeUserError

        try:
            yield
        except RuntimeUserError as error:
            raise UserError(str(error)) from error
    except ImportError as error:
        raise UserError(
            f"{file} needs the slideformer-runtime of this version, which is not installed; pip install "
            f"'./runtime[{EXTRAS[file.suffix.lower()]}]' in the source folder of slideformer"
        ) from error
