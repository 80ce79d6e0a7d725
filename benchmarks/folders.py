# SPDX-License-Identifier: Apache-2.0
"""Write scikit-learn's handwritten digits as folders of images: with labels, and without.

    python benchmarks/folders.py data/digits

leaves OUTPUT/labelled/{train,val}, each with one folder of PNGs a class, and OUTPUT/unlabelled with the
images of ``train`` alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from slideformer.files import staged
from slideformer.tasks.classify import digits


def main() -> None:
    """Write the folders."""
    parser = argparse.ArgumentParser(description="Write handwritten digits as folders of images.")
    parser.add_argument("output", type=Path, help="a new folder")
    output = parser.parse_args().output
    if output.exists():
        parser.error(f"OUTPUT must be a new folder, got {output}; choose another, or remove it")
    with staged(output) as folder:
        unlabelled = folder / "unlabelled"
        unlabelled.mkdir(parents=True)
        for split in ("train", "val"):
            for number, (image, label) in enumerate(zip(*digits.load(split), strict=True)):
                file = folder / "labelled" / split / str(label) / f"{number:05d}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                image.save(file)
                if split == "train":
                    image.save(unlabelled / file.name)


if __name__ == "__main__":
    main()
