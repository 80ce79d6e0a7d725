# SPDX-License-Identifier: Apache-2.0
"""The choice between upright and stored pixels for annotations of an image that EXIF turns."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from slideformer.runs.run import Drawn
from slideformer.tasks.images import File, open_image, orientation, read_turnable
from slideformer.tasks.training.findings import NOTE, Findings

HOW: dict[Drawn, str] = {"upright": "on the upright picture", "stored": "on the stored pixels"}


@dataclass(frozen=True)
class Header:
    """The size of an image, as it is stored and upright.

    Attributes:
        stored: width and height as it is stored.
        upright: width and height once it is turned as EXIF says.
        orientation: EXIF's, 1 to 8.
    """

    stored: tuple[int, int]
    upright: tuple[int, int]
    orientation: int

    @property
    def ambiguous(self) -> bool:
        """Whether EXIF turns the image and its size does not show it."""
        return self.orientation != 1 and self.stored == self.upright

    def drawn(self, size: tuple[int, int], ambiguous: Drawn) -> Drawn | None:
        """Tell on which pixels annotations of a size were drawn; None where the image never has that size.

        Args:
            size: width and height that the annotations say.
            ambiguous: the answer where both have that size.
        """
        fits: dict[Drawn, bool] = {"upright": self.upright == size, "stored": self.stored == size}
        return ambiguous if all(fits.values()) else next((drawn for drawn in fits if fits[drawn]), None)


def read_with_header(file: File) -> tuple[Image.Image, Header]:
    """Read an image as RGB of 8 bits as it is stored, and its header, in one opening."""
    image, number = read_turnable(file)
    return image, header_of(image.size, number)


def read_header(file: File) -> Header:
    """Read how large an image is, and how EXIF turns it, without its pixels where its format allows that."""
    with open_image(file) as image:
        tags = getattr(image, "tag_v2", None)
        # Pillow gives the size of a TIFF upright; its tags have it as it is stored.
        stored = image.size if tags is None else (int(tags[256]), int(tags[257]))
        return header_of(stored, orientation(image))


def header_of(stored: tuple[int, int], orientation: int) -> Header:
    """Return the header of an image of a stored size that EXIF turns."""
    return Header(stored, stored[::-1] if orientation >= 5 else stored, orientation)


def ambiguity(drawn: Drawn) -> str:
    """Name, for check-data, images whose size does not show that EXIF turns them."""
    return f"pictures that EXIF turns without a change of size, annotations taken as drawn {HOW[drawn]}"


def tell_ambiguous(findings: Findings, drawn: Drawn) -> None:
    """Print how many images were taken one way though their size would allow the other, before a training."""
    found = findings.found.get((NOTE, ambiguity(drawn)))
    if found is not None:
        other = next(word for word in HOW if word != drawn)
        print(f"{found.count} {found.kind}; --data.orientation {other} takes the other", flush=True)
