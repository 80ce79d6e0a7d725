# SPDX-License-Identifier: Apache-2.0
"""The backgrounds: photographs that scikit-image and scikit-learn ship in their wheels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slideformer.errors import UserError

# The two sides of the set share no photograph: held-out backgrounds are new ones. A name of scikit-image's
# is a function of `skimage.data`; a name with a suffix is a file of scikit-learn's.
PHOTOGRAPHS = {
    "train": ("astronaut", "coffee", "rocket", "stereo_motorcycle", "china.jpg"),
    "val": ("chelsea", "camera", "flower.jpg"),
}
# The share of a photograph's shorter side that a background takes, from and to.
CROP = (0.5, 1.0)


def load_photographs(split: str) -> list[Image.Image]:
    """The photographs of a split, ``"train"`` or ``"val"``, as RGB of 8 bits."""
    try:
        from skimage import data
        from sklearn.datasets import load_sample_image
    except ImportError as error:
        raise UserError(
            f"the scenes need {error.name}, which is not installed; pip install 'slideformer[detect]'"
        ) from error
    pixels = [
        load_sample_image(name) if "." in name else getattr(data, name)() for name in PHOTOGRAPHS[split]
    ]
    # Of a pair for stereo the left one.
    singles = [photograph[0] if isinstance(photograph, tuple) else photograph for photograph in pixels]
    return [Image.fromarray(photograph).convert("RGB") for photograph in singles]


def background(photograph: Image.Image, size: int, random: np.random.Generator) -> NDArray[np.float64]:
    """A random square of a photograph, mirrored half the time, ``(size, size, 3)``, 0 to 1."""
    side = round(min(photograph.size) * random.uniform(*CROP))
    left = int(random.integers(photograph.width - side + 1))
    top = int(random.integers(photograph.height - side + 1))
    crop = photograph.resize(
        (size, size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side), reducing_gap=None
    )
    pixels = np.asarray(crop, dtype=np.float64) / 255
    return pixels[:, ::-1] if random.uniform() < 0.5 else pixels
