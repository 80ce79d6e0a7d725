# SPDX-License-Identifier: Apache-2.0
"""What is seen of objects that hide each other."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from slideformer.errors import UserError
from slideformer.tasks.scenes.objects import Thing, draw_thing
from slideformer.tasks.scenes.photographs import load_photographs
from slideformer.tasks.scenes.scene import LEAST_PIXELS, LEAST_SEEN, draw_scene, fairly_seen, seen

SIZE = 64


def block(columns: slice) -> Thing:
    """An object of 10 rows, hard-edged."""
    coverage = np.zeros((SIZE, SIZE))
    coverage[20:30, columns] = 1
    return Thing(1, coverage, np.zeros((SIZE, SIZE, 3)), np.zeros((SIZE, SIZE)), float(coverage.sum()))


def test_the_one_in_front_hides_the_one_behind() -> None:
    shares = seen([block(slice(0, 20)), block(slice(15, 25))])
    assert shares.sum((1, 2)).tolist() == [150, 100]
    assert shares.sum(0).max() == 1


def test_what_hardly_anything_is_seen_of_is_left_out_and_what_it_hid_stays() -> None:
    behind, middle, front = block(slice(0, 20)), block(slice(14, 24)), block(slice(15, 30))
    assert fairly_seen([behind, middle, front]) == [behind, front]
    assert fairly_seen([behind, middle]) == [behind, middle]


def test_what_the_border_cuts_counts_as_hidden() -> None:
    cut = block(slice(0, 4))
    whole = Thing(1, cut.coverage, cut.colours, cut.shadow, cut.area / LEAST_SEEN * 1.01)
    assert fairly_seen([whole]) == []


def test_what_few_pixels_show_is_left_out() -> None:
    for seed in range(20):
        scene = draw_scene(load_photographs("val"), 32, np.random.default_rng(seed))
        assert scene.masks.sum((1, 2)).min() >= LEAST_PIXELS


def test_an_object_is_as_large_with_and_without_the_border() -> None:
    things = [draw_thing(SIZE, 0.0, np.random.default_rng(seed)) for seed in range(20)]
    inside = [thing for thing in things if not edges(thing.coverage).any()]
    assert len(inside) < len(things)
    for thing in inside:
        assert thing.coverage.sum() == pytest.approx(thing.area)
    for thing in things:
        assert thing.coverage.sum() <= thing.area + 1e-6


def edges(coverage: np.ndarray) -> np.ndarray:
    return np.concatenate([coverage[0], coverage[-1], coverage[:, 0], coverage[:, -1]])


def test_masks_share_no_pixel_and_the_label_map_is_made_of_them() -> None:
    photographs = load_photographs("val")
    for seed in range(5):
        scene = draw_scene(photographs, SIZE, np.random.default_rng(seed))
        assert scene.masks.sum(0).max() == 1
        for label, mask in zip(scene.labels, scene.masks, strict=True):
            assert set(scene.label_map()[mask]) == {label}
        assert (scene.label_map() > 0).sum() == scene.masks.sum()


def test_without_scikit_image_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(
        UserError, match=r"need skimage, which is not installed; pip install 'slideformer\[detect\]'"
    ):
        load_photographs("train")


def test_training_and_hold_out_have_different_backgrounds() -> None:
    train, val = ({image.tobytes() for image in load_photographs(split)} for split in ("train", "val"))
    assert len(train) + len(val) == len(train | val)
