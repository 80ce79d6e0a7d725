# SPDX-License-Identifier: Apache-2.0
"""An image next to its classes."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from slideformer.viz.figure import ACCENT
from slideformer.viz.legend import Entry, with_legend

# Width of the bar that shows a probability, in sizes of the words.
BAR = 5


def draw_classes(image: Image.Image, classes: Sequence[tuple[str, float]]) -> Image.Image:
    """Draw an image, as it is, with the names and probabilities of its classes to the right of it.

    Args:
        image: RGB.
        classes: name and probability, from 0 to 1, of each, the likeliest first.
    """
    entries = [Entry(f"{100 * share:.1f} %  {name}", ACCENT, share) for name, share in classes]
    return with_legend(image, "", entries, swatch=BAR)
