# SPDX-License-Identifier: Apache-2.0
"""Every kind of picture that a folder may hold becomes 8-bit RGB; what is no picture says so."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slideformer.tasks.pictures import UNREADABLE, read_image

RAMP = np.linspace(0, 255, 48).round().astype(np.uint8).reshape(6, 8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


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
    with pytest.raises(UNREADABLE):
        read_image(data)
