# SPDX-License-Identifier: Apache-2.0
"""Who sees which image when."""

from __future__ import annotations

from collections import Counter

import pytest
from torch.utils.data import DistributedSampler

from slideformer.tasks.training.sampling import EachOnce, train_sampler


def order(epoch: int, repeats: int = 0, world_size: int = 1, rank: int = 0, images: int = 24) -> list[int]:
    sampler = train_sampler(range(images), repeats, world_size, rank)
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("repeats", [0, 3])
def test_the_order_depends_on_the_epoch_alone(repeats: int) -> None:
    assert order(4, repeats) == order(4, repeats)
    assert order(4, repeats) != order(5, repeats)


def test_an_epoch_has_every_image_once() -> None:
    assert sorted(order(0)) == list(range(24))


def test_the_order_depends_on_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    first = order(0)
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    assert order(0) != first


def test_devices_share_the_images_out() -> None:
    shares = [order(2, world_size=2, rank=rank) for rank in (0, 1)]
    assert sorted(shares[0] + shares[1]) == list(range(24))
    # Step by step the two devices together see what one device with twice the batch sees.
    assert [image for pair in zip(*shares, strict=True) for image in pair] == order(2)


def test_repeated_images_fill_an_epoch_of_the_same_length() -> None:
    assert Counter(Counter(order(0, repeats=3)).values()) == {3: 8}


def test_repeats_of_an_image_go_to_different_devices_and_epochs_differ() -> None:
    shares = [order(1, repeats=3, world_size=3, rank=rank) for rank in range(3)]
    assert shares[0] == shares[1] == shares[2]
    assert set(order(1, repeats=3)) != set(order(2, repeats=3))


def test_repeated_images_are_of_the_seed_and_all_come(monkeypatch: pytest.MonkeyPatch) -> None:
    first = order(0, repeats=3)
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    assert order(0, repeats=3) != first


@pytest.mark.parametrize("images", [0, 1, 2, 9])
def test_images_to_evaluate_come_each_once(images: int) -> None:
    shares = [list(EachOnce(range(images), 2, rank)) for rank in (0, 1)]  # type: ignore[arg-type]
    assert sorted(shares[0] + shares[1]) == list(range(images))
    assert [len(EachOnce(range(images), 2, rank)) for rank in (0, 1)] == [len(x) for x in shares]  # type: ignore[arg-type]


@pytest.mark.parametrize("repeats", [0, 3])
def test_lightning_is_left_nothing_to_replace(repeats: int) -> None:
    assert isinstance(train_sampler(range(8), repeats, 2, 0), DistributedSampler)
