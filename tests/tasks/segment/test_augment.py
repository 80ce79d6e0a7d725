# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from slideformer.errors import UserError
from slideformer.tasks.segment.augment import OUTSIDE, Augment, TrainTransform, fitted, resize_labels

STILL = Augment(scale=(1.0, 1.0), max_class_share=1.0, hflip=0.0, photometric=0.0)


def pair(height: int = 40, width: int = 50) -> tuple[Tensor, Tensor]:
    """An image whose first channel is its label."""
    labels = torch.randint(0, 5, (height, width), dtype=torch.uint8)
    return torch.stack([labels, torch.full_like(labels, 7), torch.full_like(labels, 9)]), labels


@pytest.mark.parametrize("side", [16, 40, 64])
@pytest.mark.parametrize("flips", [{}, {"hflip": 1.0}, {"vflip": 1.0}, {"transpose": 1.0}], ids=str)
def test_image_and_labels_stay_on_each_other(side: int, flips: dict[str, float]) -> None:
    image, labels = pair()
    augment = Augment(**{**vars(STILL), **flips})
    found, mask = TrainTransform(augment, side, None)(image, labels)
    assert found.shape == (3, side, side)
    inside = mask != 255
    assert torch.equal(found[0][inside], mask[inside])
    assert inside.sum() == min(side, 40) * min(side, 50)
    outside = found.permute(1, 2, 0)[~inside]
    assert torch.equal(outside, torch.tensor(OUTSIDE, dtype=torch.uint8).expand_as(outside))


@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ("hflip", lambda x: x.flip(1)),
        ("vflip", lambda x: x.flip(0)),
        ("transpose", lambda x: x.T),
    ],
)
def test_a_mirror_image_is_one(option: str, wanted: Callable[[Tensor], Tensor]) -> None:
    image, labels = pair(32, 32)
    _, mask = TrainTransform(Augment(**{**vars(STILL), option: 1.0}), 32, None)(image, labels)
    assert torch.equal(mask, wanted(labels))


def test_scales_are_within_their_range_and_differ() -> None:
    image, labels = torch.zeros(3, 60, 60, dtype=torch.uint8), torch.zeros(60, 60, dtype=torch.uint8)
    transform = TrainTransform(Augment(**{**vars(STILL), "scale": (0.5, 1.5)}), 128, None)
    torch.manual_seed(0)
    sides = [int((transform(image, labels)[1] != 255).any(0).sum()) for _ in range(40)]
    assert min(sides) >= 30
    assert max(sides) <= 90
    assert max(sides) - min(sides) > 40


def test_a_crop_of_one_class_is_drawn_again() -> None:
    labels = torch.zeros(20, 400, dtype=torch.uint8)
    labels[:, :40] = torch.arange(20)[:, None] % 2
    image = labels.expand(3, -1, -1).clone()
    torch.manual_seed(0)
    shares = {}
    for most in (1.0, 0.75):
        transform = TrainTransform(Augment(**{**vars(STILL), "max_class_share": most}), 20, None)
        shares[most] = sum(bool(transform(image, labels)[1].any()) for _ in range(60))
    assert shares[0.75] > 2 * shares[1.0]


def test_colours_change_and_labels_do_not() -> None:
    torch.manual_seed(0)
    image, labels = pair(32, 32)
    found, mask = TrainTransform(Augment(**{**vars(STILL), "photometric": 1.0}), 32, None)(image, labels)
    assert torch.equal(mask, labels)
    assert not torch.equal(found, image)


@pytest.mark.parametrize(
    ("size", "short_side", "wanted"),
    [
        ((300, 400), None, (300, 400)),
        ((300, 400), 600, (600, 800)),
        ((400, 300), 150, (200, 150)),
        ((100, 1000), 100, (40, 400)),
    ],
)
def test_the_short_side_is_fitted_unless_the_long_one_grows_too_long(
    size: tuple[int, int], short_side: int | None, wanted: tuple[int, int]
) -> None:
    assert fitted(size, short_side) == wanted


def test_labels_are_enlarged_by_whole_pixels() -> None:
    labels = torch.tensor([[0, 1], [2, 255]], dtype=torch.uint8)
    wanted = labels.repeat_interleave(3, 0).repeat_interleave(3, 1)
    assert torch.equal(resize_labels(labels, (6, 6)), wanted)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hflip": 1.5}, "`augment.hflip` must be from 0 to 1, got 1.5"),
        ({"max_class_share": -1}, "`augment.max_class_share` must be from 0 to 1"),
        ({"scale": (2.0, 0.5)}, r"`augment.scale` must rise from above 0, up to 32, got \[2.0, 0.5\]"),
    ],
)
def test_changes_that_cannot_be_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Augment(**options)
