# SPDX-License-Identifier: Apache-2.0
"""Files in the form of Fashion-MNIST, with few images that are easy to tell apart."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

CLASSES = 10


def write_fashion(root: Path, train: int = 120, test: int = 40) -> Path:
    """Write images of 28 x 28, each class with a bright square of its own place."""
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for seed, (name, count) in enumerate({"train": train, "t10k": test}.items()):
        labels = np.arange(count, dtype=np.uint8) % CLASSES
        images = np.random.default_rng(seed).integers(0, 60, (count, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            row, column = divmod(int(label), 4)
            image[9 * row : 9 * row + 8, 7 * column : 7 * column + 7] = 255
        sizes = struct.pack(">IIII", 0x803, count, 28, 28)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(sizes + images.tobytes())
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(
            struct.pack(">II", 0x801, count) + labels.tobytes()
        )
    return root
