# SPDX-License-Identifier: Apache-2.0
"""The embedded digits: which are trained on, which are held out."""

from __future__ import annotations

import numpy as np

from slideformer.tasks.classify import digits


def test_the_hold_out_is_a_stratified_fifth() -> None:
    (_, train), (_, val) = digits.load("train"), digits.load("val")
    assert (len(train), len(val)) == (1437, 360)
    share = np.bincount(val) / (np.bincount(train) + np.bincount(val))
    assert np.all(np.abs(share - 0.2) < 0.01)


def test_no_digit_is_in_both_and_the_split_is_always_the_same() -> None:
    (train, _), (val, _), (again, _) = digits.load("train"), digits.load("val"), digits.load("val")
    assert [image.tobytes() for image in val] == [image.tobytes() for image in again]
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in val}


def test_images_are_rgb_of_the_full_range() -> None:
    images, _ = digits.load("train")
    assert {(image.mode, image.size) for image in images} == {("RGB", (32, 32))}
    pixels = np.asarray(images[0])
    assert pixels.min() < 10
    assert pixels.max() > 230
