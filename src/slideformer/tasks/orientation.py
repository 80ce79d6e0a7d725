# SPDX-License-Identifier: Apache-2.0
"""The choice between upright and stored pixels for annotations of an image that EXIF rotates."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from slideformer.runs.run import Drawn
from slideformer.tasks.images import File, open_image, orientation, read_with_orientation
from slideformer.tasks.training.findings import NOTE, Findings

HOW: dict[Drawn, str] = {"upright": "on the upright image", "stored": "on the stored pixels"}


@dataclass(frozen=True)
class Header:
    """The size of an image, as it is stored and upright.

    Attributes:
        stored: width and height as it is stored.
        upright: width and height once it is rotated as EXIF says.
        orientation: EXIF's, 1 to 8.
    """

    stored: tuple[int, int]
    upright: tuple[int, int]
    orientation: int

    @property
    def ambiguous(self) -> bool:
        """Whether EXIF rotates the image and its size does not show it."""
        return self.orientation != 1 and self.stored == self.upright

    def drawn(self, size: tuple[int, int], ambiguous: Drawn) -> Drawn | None:
        """Return on which pixels annotations of a size were drawn; None where the image never has that size.

        Args:
            size: width and height that the annotations say.
            ambiguous: the answer where both have that size.
        """
        fits: dict[Drawn, bool] = {"upright": self.upright == size, "stored": self.stored == size}
        return ambiguous if all(fits.values()) else next((drawn for drawn in fits if fits[drawn]), None)


def read_with_header(file: File) -> tuple[Image.Image, Header]:
    """Read an image as RGB of 8 bits as it is stored, and its header, in one opening."""
    image, number = read_with_orientation(file)
    return image, header_of(image.size, number)


def read_header(file: File) -> Header:
    """Read the size of an image and its EXIF orientation, without its pixels where its format allows that."""
    with open_image(file) as image:
        tags = getattr(image, "tag_v2", None)
        # Pillow gives the size of a TIFF upright; its tags have it as it is stored.
        stored = image.size if tags is None else (int(tags[256]), int(tags[257]))
        return header_of(stored, orientation(image))


def header_of(stored: tuple[int, int], orientation: int) -> Header:
    """Return the header of an image of a stored size and an EXIF orientation."""
    return Header(stored, stored[::-1] if orientation >= 5 else stored, orientation)


def ambiguity(drawn: Drawn) -> str:
    """Return what check-data calls images whose size does not show that EXIF rotates them."""
    return f"images that EXIF rotates without a change of size, annotations taken as drawn {HOW[drawn]}"


def ambiguous_line(findings: Findings, drawn: Drawn) -> list[str]:
    """Return a line on the images that were taken one way though their size would allow the other, if any."""
    found = findings.found.get((NOTE, ambiguity(drawn)))
    if found is None:
        return []
    other = next(word for word in HOW if word != drawn)
    return [f"{found.count} {found.kind}; `orientation` {other} takes the other"]
