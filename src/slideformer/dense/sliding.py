# SPDX-License-Identifier: Apache-2.0
"""Segmenting an image window by window, its rows finished one band after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import to_dtype

from slideformer.errors import UserError, check_range
from slideformer.models.finite import check_finite

# Called with the number of windows done and the number of all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Sliding:
    """Windows over an image.

    Attributes:
        window: side in pixels; an image that is smaller is its own window.
        stride: pixels from one to the next, at most ``window``; where they overlap, logits are averaged.
    """

    window: int = 512
    stride: int = 341

    def __post_init__(self) -> None:
        """Refuse windows that leave gaps."""
        check_range("`window`", self.window, 1)
        check_range("`stride`", self.stride, 1)
        if self.stride > self.window:
            raise UserError(
                f"`stride` must be at most the window, {self.window}, got {self.stride}; lower it"
            )

    def starts(self, length: int) -> list[int]:
        """Where windows begin along a side of this length; the last one ends with it."""
        last = max(0, length - self.window)
        return [*range(0, last, self.stride), last]


@torch.inference_mode()
def label_map(
    model: nn.Module, image: Tensor, *, sliding: Sliding | None = None, progress: Progress | None = None
) -> Tensor:
    """The likeliest class of every pixel.

    With windows, memory holds the logits of one band of rows, as high as a window, whatever the image's
    height.

    Args:
        model: maps ``(1, 3, height, width)`` to logits ``(1, classes, height, width)``; in evaluation mode.
        image: ``(3, height, width)``, floating-point in [0, 1] or 8-bit, on any device.
        sliding: windows; None for the whole image at once.
        progress: called after each window.

    Returns:
        ``(height, width)``, int32, on the CPU.
    """
    labels = torch.empty(image.shape[-2:], dtype=torch.int32)
    height, width = labels.shape
    # The whole image is a window of its own size.
    windows = Sliding(max(height, width), 1) if sliding is None else sliding
    for first, logits in bands(model, image, windows, progress):
        labels[first : first + logits.shape[1]] = likeliest(logits)
    return labels


def likeliest(logits: Tensor) -> Tensor:
    """The class of each pixel from logits ``(classes, H, W)``: ``(H, W)``, int32, on the CPU."""
    check_finite(logits)
    return logits.argmax(0).to("cpu", torch.int32)


@torch.inference_mode()
def bands(
    model: nn.Module, image: Tensor, sliding: Sliding, progress: Progress | None = None
) -> Iterator[tuple[int, Tensor]]:
    """Logits of all rows from top to bottom, a band at a time, as soon as no later window adds to them.

    Args:
        model: as for `label_map`.
        image: as for `label_map`.
        sliding: windows.
        progress: called after each window.

    Yields:
        The band's first row, and its logits ``(classes, rows, width)``, averaged over windows; they hold
        until the next band is asked for.
    """
    device = next(model.parameters(), image).device
    height, width = image.shape[-2:]
    tops, lefts = sliding.starts(height), sliding.starts(width)
    rows, columns = min(sliding.window, height), min(sliding.window, width)
    sums = torch.empty(0)
    for number, top in enumerate(tops):
        for place, left in enumerate(lefts):
            window = image[None, :, top : top + rows, left : left + columns].to(device)
            logits = model(to_dtype(window, scale=True))[0]
            if number == place == 0:
                sums = logits.new_zeros(logits.shape[0], rows, width)
            sums[:, :, left : left + columns] += logits
            if progress is not None:
                progress(number * len(lefts) + place + 1, len(tops) * len(lefts))
        more = number + 1 < len(tops)
        finished = tops[number + 1] - top if more else rows
        covered = cover(tops, rows, height)[top : top + finished, None] * cover(lefts, columns, width)
        yield top, sums[:, :finished].div_(covered.to(sums))
        if more:
            advance(sums, finished)


def cover(starts: list[int], size: int, length: int) -> Tensor:
    """How many windows cover each position of a side: ``(length,)``."""
    counts = torch.zeros(length, dtype=torch.int32)
    for start in starts:
        counts[start : start + size] += 1
    return counts


def advance(sums: Tensor, rows: int) -> None:
    """Move the sums up by some rows, in place, and begin with nothing below."""
    height = sums.shape[1]
    # Pieces as high as the step do not overlap with where they go.
    for first in range(0, height - rows, rows):
        piece = sums[:, first + rows : first + 2 * rows]
        sums[:, first : first + piece.shape[1]] = piece
    sums[:, max(0, height - rows) :] = 0
