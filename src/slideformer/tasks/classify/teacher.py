# SPDX-License-Identifier: Apache-2.0
"""The teacher of a training: a trained classifier that only answers."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from timm.data import resolve_data_config
from torch import Tensor, nn

from slideformer.errors import UserError
from slideformer.models.finite import NotFiniteError, check_finite
from slideformer.models.names import pretrained_cfg
from slideformer.runs import Blueprint, Preprocessing, Run, open_run, read_run
from slideformer.runs.preprocessing import read_preprocessing
from slideformer.runs.warm_start import published_model
from slideformer.tasks.classify.distil import Answers, answers

# How far the logits of one pass, with the maps, may be from those of another without them.
SAME = 1e-3


def read_teacher(source: str) -> Run:
    """The metadata of a teacher; its model is an empty module.

    Args:
        source: the folder of a finished run, or timm's name of a model.

    Raises:
        UserError: the source is neither, or its run is not of a classifier.
    """
    if Path(source).is_dir():
        run = read_run(source)
        if run.task != "classify":
            raise UserError(
                f"`teacher` must be the run of a classifier, got {source}, which is of the task {run.task}; "
                "give another run"
            )
        return run
    if not timm.is_model(source):
        raise UserError(
            "`teacher` must be the folder of a finished run, or a name that timm knows, got "
            f"{source}; check the path or the name"
        )
    facts = pretrained_cfg(source)
    if int(facts["num_classes"]) < 2:
        raise UserError(f"`teacher` must be a classifier, got {source} without classes; give another one")
    how = read_preprocessing(resolve_data_config({}, pretrained_cfg=facts), source)
    blueprint = Blueprint("classify", source, int(facts["num_classes"]))
    return Run(model=nn.Module(), blueprint=blueprint, preprocessing=how)


def open_teacher(source: str, num_classes: int) -> Run:
    """A teacher with its weights, in evaluation mode; those of a name of timm's are fetched.

    Args:
        source: the folder of a finished run, or timm's name of a model.
        num_classes: of the student.

    Raises:
        UserError: the source cannot be used, or has other classes.
    """
    run = read_teacher(source)
    theirs = run.blueprint.num_classes
    if theirs != num_classes:
        raise UserError(
            f"`teacher` must have the {num_classes} classes of the model, got {source} with {theirs}; "
            "give one that was trained for these classes"
        )
    return replace(run, model=published_model(source).eval()) if run.folder is None else open_run(source)


class Teacher:
    """A trained classifier that answers for the images of a student; nothing of it is trained or saved.

    It is not a module, so that a student that holds one does not count it among its own parts. It sees the
    student's images with its own normalisation, and resized where it takes one size alone.

    Args:
        run: the classifier, in evaluation mode.
        student: the model that learns; in any mode, which is kept.
        seen: how the student's images are made.
        maps: whether to give the stages' maps, where they have the shapes of the student's.

    Attributes:
        stages: number of maps that it gives.
        size: height and width that images are resized to; None where they are not.

    Raises:
        UserError: it cannot answer for such images.
    """

    def __init__(self, run: Run, student: nn.Module, seen: Preprocessing, *, maps: bool = True) -> None:
        how = run.preprocessing
        assert how is not None  # every classifier has it
        if how.input_size[0] != 3:
            raise UserError(
                f"`teacher` must take RGB images, got {run.name} for {how.input_size[0]} channels; "
                "give another one"
            )
        self.name, self.model = run.name, run.model.requires_grad_(False)
        self.architecture, self.device = run.blueprint.backbone, torch.device("cpu")
        fixed = getattr(run.model, "pretrained_cfg", {}).get("fixed_input_size", False)
        sides = how.input_size[1:]
        self.size = sides if fixed and sides != seen.input_size[1:] else None
        scale = [a / b for a, b in zip(seen.std, how.std, strict=True)]
        shift = [(a - b) / c for a, b, c in zip(seen.mean, how.mean, how.std, strict=True)]
        same = (seen.mean, seen.std) == (how.mean, how.std)
        self.scale, self.shift = (None if same else torch.tensor(x).view(3, 1, 1) for x in (scale, shift))
        self.stages = 0
        image = torch.zeros(1, *seen.input_size)
        self.try_on(image)
        if maps:
            ours, theirs = maps_of(student, image), maps_of(self.model, self.own(image))
            self.stages = len(ours) if [x.shape for x in ours] == [x.shape for x in theirs] else 0

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Answers:
        """Logits and maps for normalised images of the student, ``(B, 3, height, width)``.

        Raises:
            UserError: an answer is not finite.
        """
        if self.device != images.device:
            self.device, self.model = images.device, self.model.to(images.device)
        found = answers(self.model, self.own(images), maps=self.stages > 0)
        try:
            check_finite(found.logits)
        except NotFiniteError as error:
            raise UserError(f"the teacher {self.name}: {error}") from error
        return found

    def own(self, images: Tensor) -> Tensor:
        """Convert images from the student's normalisation and size to those of the teacher."""
        images = images.float()
        if self.scale is not None and self.shift is not None:
            images = images * self.scale.to(images) + self.shift.to(images)
        if self.size is None:
            return images
        return F.interpolate(images, self.size, mode="bicubic", antialias=True)

    def try_on(self, image: Tensor) -> None:
        """Answer for an image, before any training.

        Raises:
            UserError: the teacher does not take images of that size.
        """
        try:
            self(image)
        except (AssertionError, RuntimeError) as error:  # by which models refuse a size
            size = " x ".join(str(side) for side in image.shape[2:])
            raise UserError(
                f"`teacher` must take the model's images of {size}, but {self.name} does not: "
                f"{' '.join(str(error).split())}; choose another `image_size` or teacher"
            ) from error

    def __str__(self) -> str:
        """Who it is and what it gives, in a line."""
        gives = f"logits and {self.stages} stage maps" if self.stages else "logits alone"
        size = "" if self.size is None else f", from images resized to {self.size[0]} x {self.size[1]}"
        return f"teacher: {self.name} ({self.architecture}), {gives}{size}"

    @property
    def digest(self) -> str:
        """Architecture and a hash of the weights, by which a resumed run knows its teacher again."""
        found = sha256()
        for name, x in self.model.state_dict().items():
            found.update(name.encode())
            found.update(x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return f"{self.architecture} {found.hexdigest()[:12]}"


@torch.no_grad()
def maps_of(model: nn.Module, images: Tensor) -> list[Tensor]:
    """The stages' maps of a model; none where it cannot give them in one pass with its logits.

    Args:
        model: in any mode, which is kept.
        images: as it wants them.
    """
    if not hasattr(model, "forward_intermediates") or not hasattr(model, "forward_head"):
        return []
    mode = model.training
    model.eval()
    (logits, maps), alone = answers(model, images), model(images)
    model.train(mode)
    return maps if torch.allclose(logits, alone, rtol=SAME, atol=SAME) else []
