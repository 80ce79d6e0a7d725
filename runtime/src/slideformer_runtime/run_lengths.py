# SPDX-License-Identifier: Apache-2.0
"""Masks in COCO's compressed run lengths."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def run_lengths(mask: NDArray[np.bool_]) -> str:
    """Compress a mask ``(height, width)``: how many pixels are off, then on, and so on, column by column."""
    pixels = np.concatenate([[False], mask.ravel(order="F")])
    changes = np.flatnonzero(pixels[1:] != pixels[:-1])
    lengths = np.diff(np.concatenate([[0], changes, [mask.size]]))
    # From the fourth on as a difference to the one two before.
    lengths[3:] -= lengths[1:-2].copy()
    return "".join(map(letters, lengths.tolist()))


def letters(value: int) -> str:
    """Write an integer in groups of five bits, the lowest first; a sixth bit says that more follow."""
    text = ""
    while True:
        group, value = value & 31, value >> 5
        # Done where the rest is only the sign, which the group's highest bit repeats.
        done = value == (-1 if group & 16 else 0)
        text += chr(48 + (group if done else group | 32))
        if done:
            return text
