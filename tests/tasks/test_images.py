# SPDX-License-Identifier: Apache-2.0
"""Every kind of picture that a folder may hold becomes 8-bit RGB; what is no picture says so."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from slideformer_runtime.images import UnreadableImageError as RuntimeUnreadableImageError
from slideformer_runtime.images import read_image as read_picture

from slideformer.errors import UserError
from slideformer.tasks.images import UnreadableImageError, find_images, orientation, read_image, upright_rgb
from tests.tasks.odd_images import RAMP, REFUSED, SHOWN, damaged, encoded, turned_by
from tests.tiers import fast


def test_grey_becomes_three_equal_channels() -> None:
    image = read_image(encoded(Image.fromarray(RAMP), "png"))
    np.testing.assert_array_equal(np.asarray(image), np.repeat(RAMP[..., None], 3, 2))


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    image = read_image(encoded(Image.fromarray(RAMP.astype(np.uint16) * 257), kind))
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image)[..., 0], RAMP)


def test_a_palette_is_looked_up() -> None:
    image = Image.fromarray(np.repeat(RAMP[..., None], 3, 2)).quantize(colors=256)
    np.testing.assert_array_equal(np.asarray(read_image(encoded(image, "gif")))[..., 1], RAMP)


def test_transparency_is_dropped() -> None:
    pixels = np.dstack([np.full((2, 2, 3), 9, np.uint8), np.zeros((2, 2), np.uint8)])
    np.testing.assert_array_equal(
        np.asarray(read_image(encoded(Image.fromarray(pixels), "png"))), pixels[..., :3]
    )


def test_a_photo_stands_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    image = read_image(encoded(Image.fromarray(RAMP), "png", exif=exif))
    np.testing.assert_array_equal(np.asarray(image)[..., 0], np.rot90(RAMP, -1))


def test_a_photo_may_be_left_as_it_is_stored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = read_image(encoded(Image.fromarray(RAMP), "png", exif=exif), upright=False)
    np.testing.assert_array_equal(np.asarray(image)[..., 0], RAMP)


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (10, 200)]
    image = read_image(encoded(frames[0], "gif", save_all=True, append_images=frames[1:]))
    assert np.asarray(image).max() == 10


def test_a_path_with_spaces_and_umlauts_opens(tmp_path: Path) -> None:
    path = tmp_path / "mein schönes Bild.PNG"
    path.write_bytes(encoded(Image.fromarray(RAMP), "png"))
    assert read_image(path).size == (8, 6)


PHOTO = encoded(Image.effect_noise((64, 64), 80).convert("RGB"), "jpeg")
BAD = {
    "text": b"no picture at all",
    "nothing": b"",
    "the start of a photo": PHOTO[: len(PHOTO) // 2],
    "a header alone": encoded(Image.fromarray(RAMP), "png")[:20],
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_what_is_no_whole_picture_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableImageError):
        read_image(data)


@pytest.mark.parametrize("name", SHOWN)
def test_an_image_is_as_bright_as_its_file_says(name: str) -> None:
    data, rounding = SHOWN[name]
    image = read_image(data)
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(int) - RAMP[..., None]).max() <= rounding


@pytest.mark.parametrize("name", REFUSED)
def test_an_image_of_no_known_white_is_refused_with_path_and_mode(name: str, tmp_path: Path) -> None:
    data, words = REFUSED[name]
    path = tmp_path / "image.tif"
    path.write_bytes(data)
    with pytest.raises(UnreadableImageError, match=f"{re.escape(str(path))}: .*{words}"):
        read_image(path)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff", "webp"])
def test_stored_pixels_are_stored_ones_in_every_format(kind: str, orientation: int) -> None:
    wide = np.repeat(np.repeat(RAMP, 8, 0), 8, 1)
    options: dict[str, Any] = {"jpeg": {"quality": 100}, "webp": {"lossless": True}}.get(kind, {})
    data = encoded(Image.fromarray(wide).convert("RGB"), kind, exif=turned_by(orientation), **options)
    stored = np.asarray(read_image(data, upright=False))[..., 0].astype(int)
    upright = np.asarray(read_image(data))[..., 0].astype(int)
    transposed = wide.T if orientation >= 5 else wide
    # EXIF's definition: which border of the stored pixels is the top and which the left one.
    flips = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
    down, right = flips[orientation]
    assert np.abs(stored - wide).max() <= 3
    assert np.abs(upright - transposed[::down, ::right]).max() <= 3


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
TURNED: dict[str, tuple[str, dict[str, Any]]] = {
    "JPEG": ("jpeg", {"exif": turned_by(6)}),
    "PNG": ("png", {"exif": turned_by(3)}),
    "TIFF": ("tiff", {"exif": turned_by(6)}),
    "WebP": ("webp", {"exif": turned_by(8), "lossless": True}),
    "XMP alone": ("jpeg", {"xmp": XMP}),
    "both": ("jpeg", {"exif": turned_by(6), "xmp": XMP}),
}


@pytest.mark.parametrize("name", TURNED)
def test_an_upright_image_is_not_turned_again(name: str) -> None:
    kind, options = TURNED[name]
    data = encoded(Image.fromarray(RAMP).convert("RGB"), kind, **options)
    stored = read_image(data, upright=False)
    for image in (read_image(data), read_picture(data), upright_rgb(Image.open(io.BytesIO(data)))):
        assert orientation(image) == 1
        assert image.tobytes() != stored.tobytes()
        for again in (upright_rgb(image), read_picture(image), ImageOps.exif_transpose(image)):
            assert again.size == image.size
            assert again.tobytes() == image.tobytes()


def broken_exif() -> bytes:
    """A JPEG upside down, whose EXIF has text where a rational number belongs."""
    exif = turned_by(3)
    exif[0x011A] = 72.0
    data = encoded(Image.fromarray(RAMP), "jpeg", exif=exif, quality=100)
    entry = data.index((0x011A).to_bytes(2, "big") + b"\0\5")
    return data[: entry + 2] + b"\0\2" + data[entry + 4 :]


def png_with(kind: bytes, body: bytes, checksum: bytes = b"") -> bytes:
    """A PNG upside down with a chunk more at its start."""
    data = encoded(Image.fromarray(RAMP), "png", exif=turned_by(3))
    checksum = checksum or zlib.crc32(kind + body).to_bytes(4, "big")
    return data[:33] + len(body).to_bytes(4, "big") + kind + body + checksum + data[33:]


METADATA = {
    "upside down, text of a wrong checksum": png_with(b"tEXt", b"a\0b", b"none"),
    "upside down, text that does not unpack": png_with(b"zTXt", b"a\0\0noise"),
    "upside down, text that unpacks to too much": png_with(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**21))),
    "upside down, resolution cut short": png_with(b"pHYs", b"\0"),
    "upside down, colours of a wrong checksum": png_with(b"iCCP", b"a\0\0b", b"none"),
    "upside down, text for a rational": broken_exif(),
    "EXIF without an end": encoded(
        Image.fromarray(RAMP), "jpeg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff", quality=100
    ),
    "EXIF of noise": encoded(Image.fromarray(RAMP), "png", exif=b"Exif\0\0" + bytes(range(200, 250))),
    "orientation out of range": encoded(Image.fromarray(RAMP), "png", exif=turned_by(99)),
}


@pytest.mark.parametrize("name", METADATA)
def test_broken_metadata_leave_the_pixels(name: str) -> None:
    wanted = RAMP[::-1, ::-1] if "upside down" in name else RAMP
    for read in (read_image, read_picture):
        found = np.asarray(read(METADATA[name]))[..., 0].astype(int)
        assert np.abs(found - wanted).max() <= 3


@pytest.mark.parametrize(
    "reader",
    ["slideformer.tasks.images import read_image", "slideformer_runtime.images import read_image"],
)
def test_what_pillow_warns_of_does_not_make_an_image_unreadable(reader: str, tmp_path: Path) -> None:
    (tmp_path / "noise.jpg").write_bytes(METADATA["EXIF without an end"])
    Image.new("L", (40, 40)).save(tmp_path / "large.png")
    words = (
        f"import warnings; from {reader} as read; from PIL import Image; Image.MAX_IMAGE_PIXELS = 1000; "
        "filters = list(warnings.filters); [read(name) for name in ('noise.jpg', 'large.png')]; "
        "assert warnings.filters == filters; Image.open('noise.jpg').getexif()"
    )
    command = [sys.executable, "-W", "error::UserWarning", "-W", "error::RuntimeWarning", "-c", words]
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        command, cwd=tmp_path, env=here, capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("count", fast([1_000, 10_000]))
def test_damaged_files_are_read_or_unreadable_alike_in_library_and_runtime(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)  # no time for damaged sizes
    unreadable = 0
    for data in damaged(count):
        try:
            image = read_image(data)
        except UnreadableImageError:
            unreadable += 1
            with pytest.raises(RuntimeUnreadableImageError):
                read_picture(data)
        else:
            assert image.tobytes() == read_picture(data).tobytes()
    assert 0.1 * count < unreadable < 0.9 * count


@pytest.mark.parametrize("error", [MemoryError, TypeError, ZeroDivisionError, RecursionError, Warning])
def test_whatever_a_decoder_raises_is_one_exception(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("of a decoder")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    for read, unreadable in ((read_image, UnreadableImageError), (read_picture, RuntimeUnreadableImageError)):
        with pytest.raises(unreadable, match=f"{error.__name__}: of a decoder"):
            read(SHOWN["BMP"][0])


def test_an_interruption_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", interrupt)
    with pytest.raises(KeyboardInterrupt):
        read_image(SHOWN["BMP"][0])


def iptc_of_eps() -> bytes:
    """An EPS within an IPTC file, which Pillow hands on."""
    page = REFUSED["printed page, EPS"][0]
    fields = ((3, 60, b"\1\0"), (3, 20, b"\0\x08"), (3, 30, b"\0\x06"), (3, 120, b"\5"), (8, 10, page))
    return b"".join(
        bytes((28, record, number)) + len(data).to_bytes(2, "big") + data for record, number, data in fields
    )


@pytest.mark.parametrize("data", [REFUSED["printed page, EPS"][0], iptc_of_eps()], ids=["EPS", "EPS in IPTC"])
def test_no_other_program_is_run(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        pytest.fail("a program was run")

    monkeypatch.setattr(subprocess, "check_call", run)
    monkeypatch.setattr(subprocess, "Popen", run)
    for read, unreadable in ((read_image, UnreadableImageError), (read_picture, RuntimeUnreadableImageError)):
        with pytest.raises(unreadable):
            read(data)


def test_a_fifo_is_refused_and_does_not_block(tmp_path: Path) -> None:
    fifo = tmp_path / "photo.jpg"
    os.mkfifo(fifo)
    (tmp_path / "link.jpg").symlink_to(fifo)
    for path in (fifo, tmp_path / "link.jpg", Path("/dev/zero")):
        for read, unreadable in (
            (read_image, UnreadableImageError),
            (read_picture, RuntimeUnreadableImageError),
        ):
            with pytest.raises(unreadable, match="must be a regular file") as caught:
                read(path)
            assert str(caught.value).count(str(path)) == 1
            assert "Error" not in str(caught.value)
    with pytest.raises(UserError, match=r"photo.jpg must be a regular file, got a FIFO"):
        find_images([str(fifo)])
    assert find_images([str(tmp_path)]) == [tmp_path / "link.jpg", fifo]  # to be reported as unreadable
