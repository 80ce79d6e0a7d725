# SPDX-License-Identifier: Apache-2.0
"""The input of models that look at a picture in its own size and normalise by themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slideformer_runtime.errors import UserError
from slideformer_runtime.facts import Facts
from slideformer_runtime.prepare import unit_pixels


def whole_picture(picture: Image.Image, facts: Facts) -> NDArray[np.float32]:
    """Pixels from 0 to 1: ``(3, height, width)``.

    Raises:
        UserError: the file takes pictures of another size alone.
    """
    height = picture.height if facts.height is None else facts.height
    width = picture.width if facts.width is None else facts.width
    if (height, width) != (picture.height, picture.width):
        raise UserError(
            f"a picture must be {width} pixels wide and {height} high for this file, got {picture.width} x "
            f"{picture.height}; resize it, or export the model for any size"
        )
    return unit_pixels(picture)
