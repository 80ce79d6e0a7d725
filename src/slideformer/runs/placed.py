# SPDX-License-Identifier: Apache-2.0
"""Where and how a run computes: its model merged, on a device, in a precision; the same for every task."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import to_dtype

from slideformer.errors import UserError
from slideformer.models.merge import reparameterize
from slideformer.runs.exported import Exported
from slideformer.runs.preprocessing import Normalise
from slideformer.runs.run import Run, TaskName

# Of a product of matrices; sums that need it stay in float32, as PyTorch's autocast has it.
PRECISIONS = {str(dtype)[6:]: dtype for dtype in (torch.float32, torch.bfloat16, torch.float16)}
Images = TypeVar("Images", Tensor, list[Tensor])


def placed(run: Run, *, device: str | None, precision: str | None, merge: bool) -> Run:
    """A run whose model takes images from anywhere, and computes them on a device in a precision.

    The run that is given keeps its model as it is.

    Args:
        run: its model is in evaluation mode.
        device: where to compute: ``auto`` (the GPU that is here, else the CPU) or PyTorch's name of a device;
            None for where the model is.
        precision: a name in `PRECISIONS`; None for float32.
        merge: whether learned shifts are merged in a copy, which is worth its time for many images.

    Returns:
        The run with a `Placed` model.

    Raises:
        UserError: the device is not here, or the run is an exported file, which runs on the CPU in the
            precision that it was exported in.
    """
    if precision is not None and precision not in PRECISIONS:
        raise UserError(f"`precision` must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    model = run.model
    if isinstance(model, Exported):
        check_exported(run, device, precision)
        where = torch.device("cpu")
    else:
        own = next(model.parameters(), torch.empty(0)).device
        where = own if device is None else find_device(device)
        if merge or where != own:
            model = reparameterize(model).to(where)
    prepare = to_unit if run.preprocessing is None else Normalise(run.preprocessing, where)
    dtype = PRECISIONS["float32" if precision is None else precision]
    return replace(run, model=Placed(model, prepare, where, dtype, run.task))


class Placed(nn.Module):
    """A model on a device, which takes images from any other.

    Args:
        model: is there already.
        prepare: makes the model's input of 8-bit pixels.
        device: where it is.
        dtype: of products of matrices.
        task: of the model.
    """

    def __init__(
        self,
        model: nn.Module,
        prepare: Callable[[Tensor], Tensor],
        device: torch.device,
        dtype: torch.dtype,
        task: TaskName,
    ) -> None:
        super().__init__()
        self.model, self.prepare, self.device, self.dtype, self.task = model, prepare, device, dtype, task

    def forward(self, images: Images) -> Any:
        """The model's answers, in float32, on its device.

        Args:
            images: ``(B, 3, height, width)``, or a detector's list of ``(3, height, width)``: 8-bit pixels,
                or the model's input.

        Raises:
            UserError: the device has too little memory.
        """
        try:
            with torch.inference_mode(), self.autocast():
                if isinstance(images, Tensor):
                    return in_float32(self.model(self.moved(images)))
                return in_float32(self.model([self.moved(image) for image in images]))
        except torch.OutOfMemoryError as error:
            raise too_little_memory(self.device, self.task, len(images)) from error

    def moved(self, image: Tensor) -> Tensor:
        """An image, or a batch, on the device, and as the model takes it."""
        here = image.to(self.device)
        return self.prepare(here) if here.dtype == torch.uint8 else here

    def autocast(self) -> AbstractContextManager[object]:
        """The context of the precision."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)


def too_little_memory(device: torch.device, task: TaskName, count: int) -> UserError:
    """The error for so many images that a device has too little memory for."""
    if task == "segment":
        what, advice = "an image", "give a smaller `window`"
    elif count > 1:
        what, advice = f"a batch of {count} images", "lower `batch_size`"
    else:
        what, advice = "an image", "give a smaller one, or another `device`"
    return UserError(f"{device} has too little memory for {what}; {advice}")


def to_unit(pixels: Tensor) -> Tensor:
    """8-bit pixels as numbers from 0 to 1, for a model that normalises by itself."""
    return to_dtype(pixels, scale=True)


def in_float32(answers: Any) -> Any:
    """Answers of a lower precision, in tensors, lists or dictionaries, in float32."""
    if isinstance(answers, Tensor):
        return answers.float() if answers.is_floating_point() else answers
    if isinstance(answers, dict):
        return {name: in_float32(x) for name, x in answers.items()}
    return [in_float32(x) for x in answers]


def find_device(name: str) -> torch.device:
    """The device of a name; ``auto`` is the GPU that is here, else the CPU.

    Raises:
        UserError: it is not here.
    """
    if name == "auto":
        gpus = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        return torch.device(next((gpu for gpu, here in gpus.items() if here), "cpu"))
    return check_device(name)


def check_device(name: str) -> torch.device:
    """The device of one of PyTorch's names.

    Raises:
        UserError: it is not here, or does not compute.
    """
    try:
        device = torch.empty(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        # PyTorch appends everything that it knows about its own build.
        reason = str(error).splitlines()[0].split(". ")[0]
        raise UserError(f"`device` must be one that is here, got {name!r}: {reason}") from error
    if device.type == "meta":
        raise UserError(f"`device` must be one that computes, got {name!r}, which has shapes only; give cpu")
    return device


def check_exported(run: Run, device: str | None, precision: str | None) -> None:
    """Reject a device or a precision that an exported file does not compute in."""
    if device not in (None, "auto", "cpu"):
        raise UserError(
            f"an exported file runs on the CPU, got {run.name} and `device` {device}; give the run that it "
            "was exported from"
        )
    if precision is not None:
        raise UserError(
            f"an exported file computes in the precision of its export, got {run.name} and `precision` "
            f"{precision}; leave it out"
        )
