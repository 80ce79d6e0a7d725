# SPDX-License-Identifier: Apache-2.0
"""Two classifiers side by side: counts of hand-made answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from slideformer.errors import UserError
from slideformer.runs import Facts, Preprocessing
from slideformer.tasks.classify.compare import Comparison, compare
from tests.conftest import CLASSES

HOW = Preprocessing(
    input_size=(3, 24, 24), mean=(0.0,) * 3, std=(1.0,) * 3, interpolation="bicubic", crop_pct=1.0
)
FACTS = Facts(task="classify", architecture="x", class_names=tuple(CLASSES), preprocessing=HOW)
# In val/ there are three pictures of each class, class by class.
RIGHT = (0, 0, 0, 1, 1, 1, 2, 2, 2)


def answers(*classes: int) -> Callable[[Tensor], Tensor]:
    """A classifier that says these classes one after another, whatever it sees."""
    left = list(classes)

    def classify(images: Tensor) -> Tensor:
        assert images.shape[1:] == (3, 24, 24)
        said = [left.pop(0) for _ in images]
        return F.one_hot(torch.tensor(said), len(CLASSES)).float()

    return classify


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_equal_and_right_answers_are_counted(batch_size: int, all_photos: Path) -> None:
    first = answers(0, 0, 0, 1, 1, 0, 2, 2, 1)  # 7 right
    second = answers(0, 0, 1, 1, 2, 0, 2, 0, 1)  # 4 right, 6 as the first
    found = compare(first, second, str(all_photos), FACTS, batch_size=batch_size)
    assert found == Comparison(images=9, same=6, right=7, other_right=4)
    assert (found.agreement, found.top1, found.other_top1) == (6 / 9, 7 / 9, 4 / 9)


def test_a_folder_of_class_folders_is_taken_as_it_is(all_photos: Path) -> None:
    found = compare(answers(*RIGHT), answers(*RIGHT), str(all_photos / "val"), FACTS)
    assert found == Comparison(images=9, same=9, right=9, other_right=9)


def test_a_part_of_a_folder_is_what_a_training_held_out(all_photos: Path) -> None:
    one_each = answers(0, 1, 2)
    found = compare(one_each, answers(0, 1, 2), str(all_photos / "val"), FACTS, val_fraction=0.3)
    assert found == Comparison(images=3, same=3, right=3, other_right=3)


def test_unreadable_pictures_are_left_out(photos: Path) -> None:
    (photos / "val" / CLASSES[0] / "0.jpg").write_text("no picture")
    found = compare(answers(*RIGHT[1:]), answers(*RIGHT[1:]), str(photos), FACTS, batch_size=1)
    assert found == Comparison(images=8, same=8, right=8, other_right=8)


def test_other_classes_are_refused(all_photos: Path) -> None:
    facts = replace(FACTS, class_names=("ant", "bee", "cat"))
    with pytest.raises(UserError, match="ant"):
        compare(answers(), answers(), str(all_photos), facts)


def test_a_source_without_a_readable_picture_is_refused(photos: Path) -> None:
    for picture in (photos / "val").rglob("*.jpg"):
        picture.write_text("no picture")
    with pytest.raises(UserError, match="there must be an image to compare on, got none"):
        compare(answers(), answers(), str(photos), FACTS)
