# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from slideformer.layers import ConvStem


def test_each_convolution_halves_the_side_and_doubles_the_channels() -> None:
    stem = ConvStem(3, 16, 8)
    assert [(each.in_channels, each.out_channels) for each in stem.proj] == [(3, 4), (4, 8), (8, 16)]
    assert stem(torch.randn(2, 3, 64, 48)).shape == (2, 8, 6, 16)


@pytest.mark.parametrize("size", [(33, 64), (30, 21), (1, 1), (5, 3)], ids=str)
def test_an_image_of_any_size_has_a_position_for_each_begun_patch(size: tuple[int, int]) -> None:
    rows, columns = (-(-side // 4) for side in size)
    assert ConvStem(3, 8)(torch.randn(2, 3, *size)).shape == (2, rows, columns, 8)


def test_an_odd_image_is_seen_with_zeros_behind_it() -> None:
    stem, image = ConvStem(3, 8), torch.randn(2, 3, 31, 7)
    torch.testing.assert_close(stem(image), stem(F.pad(image, (0, 1, 0, 1))))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 8, 4), "in_chans and dim must be at least 1, got 0 and 8"),
        ((3, 8, 6), "patch_size must be a power of two, got 6"),
        ((3, 9, 4), "dim must be a multiple of 2, half of patch_size, got 9"),
    ],
    ids=["channels", "patch", "dim"],
)
def test_bad_sizes_are_refused(arguments: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvStem(*arguments)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"an image must be \(B, 3, height, width\), got \(3, 8, 8\)"):
        ConvStem(3, 8)(torch.zeros(3, 8, 8))
