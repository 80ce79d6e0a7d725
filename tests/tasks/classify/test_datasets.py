# SPDX-License-Identifier: Apache-2.0
"""Labelled images behind one interface; unreadable ones are left out with their path, or stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.transforms.functional import pil_to_tensor

from slideformer.errors import UserError
from slideformer.tasks.classify.datasets import (
    Batch,
    Images,
    collate,
    collate_to_train,
    hold_out_class_names,
    open_reader,
    source_class_names,
)
from slideformer.tasks.training.batches import Unreadable
from tests.conftest import CLASSES, COLOURS, COUNTS


@pytest.fixture
def broken(photos: Path) -> Path:
    """The photos with a truncated one and one that is text."""
    truncated = photos / "train" / "lemon" / "3.jpg"
    truncated.write_bytes(truncated.read_bytes()[:300])
    (photos / "train" / "kiwi" / "0.jpg").write_text("a photo of a kiwi")
    return photos


def loader(root: Path, on_bad_image: Any, workers: int = 0) -> DataLoader[Batch]:
    names = source_class_names(str(root))
    images = Images(open_reader(str(root), "train", names), pil_to_tensor, on_bad_image)
    return DataLoader(images, 6, num_workers=workers, collate_fn=collate)


def test_every_image_comes_once_with_the_class_of_its_folder(photos: Path) -> None:
    names = source_class_names(str(photos))
    reader = open_reader(str(photos), "train", names)
    assert len(reader) == len(CLASSES) * COUNTS["train"]
    for index in range(len(reader)):
        image, target = reader[index]
        folder = Path(reader.name(index)).parent.name
        assert names[target] == folder
        mean = pil_to_tensor(image).float().mean((1, 2))
        assert (mean - torch.tensor(COLOURS[folder])).abs().max() < 12


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_left_out_and_named(broken: Path, workers: int) -> None:
    batches = list(loader(broken, "skip", workers))
    named = {Path(path).relative_to(broken) for batch in batches for path in batch.unreadable}
    assert named == {Path("train/lemon/3.jpg"), Path("train/kiwi/0.jpg")}
    assert sum(len(batch.images) for batch in batches) == len(CLASSES) * COUNTS["train"] - 2
    assert all(len(batch.images) == len(batch.targets) for batch in batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_stops_where_that_is_asked(broken: Path, workers: int) -> None:
    with pytest.raises(UserError, match=r"an image must be complete and readable, got .*kiwi/0\.jpg"):
        [batch.check() for batch in loader(broken, "stop", workers)]


def test_a_batch_without_a_readable_image_is_refused_in_training_alone() -> None:
    samples = [Unreadable("a"), Unreadable("b")]
    assert collate(samples).check().unreadable == ("a", "b")
    batch = collate_to_train(samples)
    with pytest.raises(UserError, match="must hold a readable image, got 2 unreadable ones, the first a;"):
        batch.check()


def test_a_batch_stacks_what_is_readable() -> None:
    images = [torch.full((3, 2, 2), value) for value in (1.0, 2.0)]
    batch = collate([(images[0], 4), Unreadable("bad"), (images[1], 7)])
    assert batch.images.shape == (2, 3, 2, 2)
    assert batch.targets.tolist() == [4, 7]
    assert batch.targets.dtype == torch.long
    assert batch.unreadable == ("bad",)


def test_a_hold_out_is_val_or_the_folder_itself(photos: Path) -> None:
    assert hold_out_class_names(str(photos)) == hold_out_class_names(str(photos / "val")) == sorted(CLASSES)
    names = sorted(CLASSES)
    for source in (photos, photos / "val"):
        assert len(open_reader(str(source), "val", names)) == len(CLASSES) * COUNTS["val"]
