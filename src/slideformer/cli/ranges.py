# SPDX-License-Identifier: Apache-2.0
"""The ranges of options: what numbers may be, and the words of tables that would be slow to import."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence

from slideformer.errors import UserError

# Set by ``slideformer --no-limits``: sizes beyond what is usual are taken, whatever memory they need.
NO_LIMITS = "SLIDEFORMER_NO_LIMITS"
# Beyond it nothing can be addressed, limits or not.
LARGEST = 2**31 - 1
# Upper bounds: of the side of a map or image, of the pixels of an exported input, and of those of a batch.
SIDE, PIXELS, BATCH_PIXELS = 4096, 2**22, 2**25
LIFT = "; add --no-limits for more"

# The names of `slideformer.deploy.RUNTIMES` and `PRECISIONS`, which import PyTorch.
RUNTIMES = ("onnx", "openvino", "executorch", "coreml", "coreai", "torch")
PRECISIONS = ("float32", "float16", "int8")
# Those of `slideformer.runs.placed.PRECISIONS`, which PyTorch computes in.
DTYPES = ("float32", "bfloat16", "float16")


def limit(usual: int, most: int = LARGEST) -> int:
    """An upper bound: the usual one, or the last one where limits are lifted."""
    return most if os.environ.get(NO_LIMITS) else usual


def whole(least: int, usual: int, most: int = LARGEST) -> Callable[[str], int]:
    """The type of an option that is a whole number.

    Args:
        least: that it may be.
        usual: upper bound.
        most: upper bound with ``--no-limits``; equal to ``usual`` where that lifts nothing.
    """

    def parse(text: str) -> int:
        highest = limit(usual, most)
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is not None and least <= value <= highest:
            return value
        lift = "" if value is None or not highest < value <= most else LIFT
        raise refusal(f"a whole number from {least} to {highest}", text, lift)

    return parse


def real(least: float, highest: float) -> Callable[[str], float]:
    """The type of an option that is a number from ``least`` to ``highest``."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= highest:
            raise refusal(f"a number from {least:g} to {highest:g}", text)
        return value

    return parse


def side_lengths(text: str) -> tuple[int, int]:
    """Height and width from ``HxW``, or from one number for both.

    Raises:
        argparse.ArgumentTypeError: it is something else, or too large.
    """
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and len(part) < 10 and int(part) > 0 for part in parts):
        raise refusal("HxW in pixels, such as 224x320", text)
    height, width = int(parts[0]), int(parts[-1])
    if height * width > limit(PIXELS):
        raise refusal(f"HxW of at most {limit(PIXELS)} pixels", text, LIFT)
    return height, width


def map_sides(least: int, usual: int, most: int = LARGEST) -> Callable[[str], int | str]:
    """The type of an option that is one whole number for all axes of a map, or one an axis, as 16x56x56.

    Args:
        least: as in `whole`, as are the others; of each number.
        usual: upper bound.
        most: upper bound with ``--no-limits``.
    """
    number = whole(least, usual, most)

    def parse(text: str) -> int | str:
        parts = text.lower().split("x")
        if len(parts) == 1:
            return number(text)
        if len(parts) > 3 or not all(part.isdecimal() for part in parts):
            raise refusal("one whole number, or two or three such as 16x56x56", text)
        return "x".join(str(number(part)) for part in parts)

    return parse


def check_pixels(batch: int, sides: Sequence[int]) -> None:
    """Refuse batches of square images that no usual machine has memory for."""
    pixels = batch * max(sides) ** 2
    if pixels > limit(BATCH_PIXELS):
        raise UserError(
            f"--batch times --size squared must be at most {limit(BATCH_PIXELS)}, got {pixels}{LIFT}"
        )


def refusal(wanted: str, text: str, hint: str = "") -> argparse.ArgumentTypeError:
    """The error for a value that an option does not take."""
    came = text if len(text) <= 40 else f"{text[:37]}..."
    return argparse.ArgumentTypeError(f"must be {wanted}, got {came!r}{hint}")


# Threads of a runtime, which starts every one of them.
THREADS = whole(1, 1024, 1024)
