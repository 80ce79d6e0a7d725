# SPDX-License-Identifier: Apache-2.0
"""Finding and reading images: any kind that a folder may hold, as 8-bit RGB, or why it is not readable."""

from __future__ import annotations

import glob
import io
import warnings
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import ExifTags, Image

from slideformer.errors import UserError
from slideformer.files import regular_file
from slideformer.tasks.walk import files_below

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

OnBadImage = Literal["skip", "stop"]
File = str | Path | BinaryIO | bytes

# The rotation that makes an image upright, by the number of EXIF's orientation.
ROTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow runs other programs to read EPS, which an IPTC file may hold.
READ_BY_PROGRAMS = ("EPS", "IPTC")
# Formats whose integers of more than 8 bits Pillow scales to 16 bits without a sign.
SIXTEEN_BITS = ("PNG", "PPM", "JPEG2000")
# The first bytes of a PNG.
PNG = b"\x89PNG\r\n\x1a\n"
# The metadata that may hold an orientation.
METADATA = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")

# Pillow warns of odd metadata, which does not change the pixels. Filters are set once for the process, since
# one for each image would race between threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


class UnreadableImageError(UserError):
    """An image that cannot be read, or whose brightness its file does not define.

    Args:
        reason: what is wrong with it.
        file: its path, where it has one.
    """

    def __init__(self, reason: str, file: str = "") -> None:
        super().__init__(f"{file}: {reason}" if file else reason)
        self.reason, self.file = reason, file


@contextmanager
def decoding(path: str = "") -> Iterator[None]:
    """Turn whatever Pillow raises into one exception.

    Raises:
        UnreadableImageError: it raised something.
    """
    try:
        yield
    except UnreadableImageError:
        raise
    except UserError as error:  # which names its file
        raise UnreadableImageError(str(error)) from error
    # Damaged bytes make decoders raise any error, also TypeError, struct.error and MemoryError.
    except Exception as error:
        raise UnreadableImageError(f"{type(error).__name__}: {error}", path) from error


@contextmanager
def open_image(file: File) -> Iterator[Image.Image]:
    """Open an image without reading its pixels.

    Args:
        file: its path, its bytes or an open file.

    Raises:
        UnreadableImageError: it is not an image, or the block could not read it.
    """
    path = str(file) if isinstance(file, str | Path) else ""
    with decoding(path):
        if path:
            regular_file(path)
        with open_any(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            yield image


def open_any(file: str | Path | BinaryIO) -> Image.Image:
    """Open an image; a PNG that Pillow rejects for broken metadata is opened without it, as viewers do."""
    try:
        return Image.open(file)
    except (OSError, ValueError):
        with open(file, "rb") if isinstance(file, str | Path) else nullcontext(file) as source:
            source.seek(0)
            if source.read(len(PNG)) != PNG:
                raise
            return Image.open(io.BytesIO(PNG + without_metadata(source.read())))


def without_metadata(chunks: bytes) -> bytes:
    """Return the chunks of a PNG that its pixels need, and that of EXIF where it is intact."""
    kept, place = b"", 0
    while place < len(chunks):
        end = place + 12 + int.from_bytes(chunks[place : place + 4], "big")
        kind, checked = chunks[place + 4 : place + 8], chunks[place + 4 : end - 4]
        intact = zlib.crc32(checked).to_bytes(4, "big") == chunks[end - 4 : end]
        if kind[:1].isupper() or (kind == b"eXIf" and intact):
            kept += chunks[place:end]
        place = end
    return kept


def read_image(file: File, *, upright: bool = True) -> Image.Image:
    """Read an image as RGB of 8 bits, with the brightness that its file defines.

    Grey, palette, CMYK and 16-bit images are converted; floating-point ones must be from 0, black, to 1,
    white; transparency is dropped; of an animation the first frame is taken.

    Args:
        file: its path, its bytes or an open file.
        upright: rotate it as EXIF's orientation says; annotations may have been drawn on the stored pixels.

    Raises:
        UnreadableImageError: it is not a complete image, or its file does not say how bright its pixels are.
    """
    stored, number = read_with_orientation(file)
    return apply_orientation(stored, number) if upright else stored


def read_with_orientation(file: File) -> tuple[Image.Image, int]:
    """Read an image as RGB of 8 bits as it is stored, and its EXIF orientation, in one opening."""
    with open_image(file) as image:
        applied = load(image)
        return apply_orientation(as_rgb(image), inverse(applied)), max(applied, orientation(image))


def upright_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of Pillow to what `read_image` gives."""
    with decoding():
        load(image)
        return apply_orientation(as_rgb(image), orientation(image))


def read_stored(file: File) -> Image.Image:
    """Read an image as it is stored, whatever its mode."""
    with open_image(file) as image:
        return apply_orientation(image, inverse(load(image)))


def load(image: Image.Image) -> int:
    """Read the pixels of an opened image; return the orientation that Pillow applied, as to a TIFF."""
    if image.format in READ_BY_PROGRAMS:
        raise ValueError(f"{image.format} is read by other programs; save it in another format")
    # Not read of other formats: a PNG would be read to its end here, and the error of a damaged one lost.
    applied = orientation(image) if image.format == "TIFF" else 1
    image.load()
    return applied


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image, 1 (upright) to 8; 1 where it has none or is broken."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
        return int(found) if found in ROTATIONS else 1
    # Broken metadata can raise anything, and says nothing about the pixels.
    except Exception:
        return 1


def inverse(orientation: int) -> int:
    """Return the orientation that undoes another one."""
    return {6: 8, 8: 6}.get(orientation, orientation)


def apply_orientation(image: Image.Image, orientation: int) -> Image.Image:
    """Rotate or mirror an image to upright, and drop the metadata that would do it again."""
    if orientation not in ROTATIONS:
        return image
    upright = image.transpose(ROTATIONS[orientation])
    for name in METADATA:
        upright.info.pop(name, None)
    return upright


def as_rgb(image: Image.Image) -> Image.Image:
    """Convert an image whose pixels were read to RGB of 8 bits.

    Raises:
        ValueError: it has no pixels, or its brightness is not defined.
    """
    if 0 in image.size:
        raise ValueError(f"it must have pixels, got {image.width} x {image.height}")
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    if 2 in tags.get(339, ()):  # SampleFormat: signed integers
        raise ValueError(
            f"it must have no sign, got signed integers of mode {image.mode}; save it with 8 bits"
        )
    if image.mode == "F" or image.mode.startswith("I"):
        # A TIFF says how many bits it has, and whether 0 is its white.
        return as_grey(image, bits=max(tags.get(258, (16,))), inverted=tags.get(262) == 0).convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    if "transparency" in image.info:  # of a palette: Pillow drops it from RGBA without a warning
        image = image.convert("RGBA")
    return image.convert("RGB")


def as_grey(image: Image.Image, *, bits: int, inverted: bool) -> Image.Image:
    """Scale an image of one channel of more than 8 bits to 8; Pillow would clip it at 255.

    Args:
        image: of mode F or one of those that begin with I.
        bits: of its integers.
        inverted: whether 0 is white.

    Raises:
        ValueError: white is not defined, or its values are not from black to white.
    """
    known = image.format in SIXTEEN_BITS or (image.mode != "I" and image.format in ("TIFF", None))
    white = 1.0 if image.mode == "F" else 2.0**bits - 1
    pixels = np.asarray(image, dtype=np.float64)
    low, high = pixels.min(), pixels.max()
    if not (image.mode == "F" or known) or not 0 <= low <= high <= white:
        raise ValueError(
            "it must have 16 bits without a sign or be floating-point from 0 to 1, got mode "
            f"{image.mode} with values from {low:g} to {high:g}; save it with 8 or 16 bits"
        )
    share = pixels / white
    return Image.fromarray((255 * (1 - share if inverted else share)).round().astype(np.uint8))


def is_readable(file: str | Path) -> bool:
    """Whether a file is a complete image."""
    try:
        read_image(file)
    except UnreadableImageError:
        return False
    return True


def unreadable_message(name: str, error: UnreadableImageError) -> str:
    """Return the error message for an unreadable image, where the user asked to stop.

    Args:
        name: of the image, where the error does not know its file.
        error: what reading it raised.
    """
    return (
        f"an image must be complete and readable, got {error.file or name} ({error.reason}); "
        "repair or remove it, or leave it out with `on_bad_image` skip"
    )


def image_paths(folder: Path, *, others: Collection[str] = ()) -> Iterator[str]:
    """List the images anywhere below a folder, in the order of their names; see `files_below` for links.

    Args:
        folder: where to begin.
        others: real paths of folders whose images are left out, such as those of other classes.
    """
    return (path for path in files_below(folder, others) if path.lower().endswith(SUFFIXES))


def check_folder(what: str, path: Path) -> None:
    """Check that a path is a folder."""
    if not path.is_dir():
        found = "which is a file; give the folder around it" if path.exists() else "which does not exist"
        raise UserError(f"{what} must be a folder, got {path}, {found}; check the path")


def find_images(patterns: Iterable[str]) -> list[Path]:
    """List the images that files, folders (with all below them) and globs name, in order, each once.

    Raises:
        UserError: one of them names nothing, or something that is neither a file nor a folder.
    """
    found: list[Path] = []
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            below = [Path(file) for file in image_paths(path)]
        elif path.exists():
            below = [regular_file(path)]
        else:
            below = sorted(
                Path(match) for match in glob.glob(pattern, recursive=True) if Path(match).is_file()
            )
        if not below:
            raise UserError(
                f"{pattern} must be an image, a folder of images or a glob, but names none; check it"
            )
        found.extend(below)
    return list(dict.fromkeys(found))
