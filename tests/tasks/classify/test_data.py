# SPDX-License-Identifier: Apache-2.0
"""Loaders of every kind of source."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from slideformer.errors import UserError
from slideformer.tasks.classify.data import Augment, ClassificationData
from tests.conftest import CLASSES, COUNTS


def data(source: object, **options: object) -> ClassificationData:
    defaults = {"model": "slide_swin_nano", "batch_size": 8, "num_workers": 0}
    return ClassificationData(str(source), **{**defaults, **options})  # type: ignore[arg-type]


def test_training_batches_are_whole_and_the_hold_out_complete(photos: Path) -> None:
    loaders = data(photos, batch_size=7)
    assert [len(batch.images) for batch in loaders.train_dataloader()] == [7, 7, 7]
    assert sum(len(batch.images) for batch in loaders.val_dataloader()) == len(CLASSES) * COUNTS["val"]


def test_a_batch_larger_than_the_data_takes_them_all(photos: Path) -> None:
    (batch,) = data(photos, batch_size=999).train_dataloader()
    assert batch.images.shape == (24, 3, 32, 32)


def test_the_image_size_is_the_models_unless_given(photos: Path) -> None:
    (batch,) = data(photos, batch_size=999, image_size=48).val_dataloader()
    assert batch.images.shape[1:] == (3, 48, 48)


def test_the_hold_out_is_not_augmented(photos: Path) -> None:
    batches = [torch.cat([b.images for b in data(photos).val_dataloader()]) for _ in range(2)]
    torch.testing.assert_close(batches[0], batches[1])


def test_augmentation_is_what_was_asked_for() -> None:
    augment = Augment(
        scale=(0.5, 0.9), hflip=0.3, auto_augment="rand-m9-mstd0.5-inc1", erase_prob=0.25, erase_mode="pixel"
    )
    text = str(data("digits", augment=augment).train_transform())
    for words in ("scale=(0.5, 0.9)", "p=0.3", "RandAugment", "RandomErasing"):
        assert words in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must be at least 0, got -1"),
        ({"image_size": 0}, "image_size must be at least 1, got 0"),
        ({"model": "slide_swim"}, "slide_swim"),
        ({"source": "wds/x"}, r"must say its classes, got wds/x; pass --data.num_classes N"),
        ({"source": "nowhere"}, "must be a folder, got nowhere, which does not exist"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        data(**{"source": "digits", **options})


def write_shard(path: Path, count: int) -> None:
    """A tar of pictures with the number of their class, as webdataset has it."""
    with tarfile.open(path, "w") as tar:
        for number in range(count):
            buffer = io.BytesIO()
            Image.fromarray(np.full((40, 40, 3), 10 * number, np.uint8)).save(buffer, "jpeg")
            for suffix, content in (("jpg", buffer.getvalue()), ("cls", str(number % 2).encode())):
                entry = tarfile.TarInfo(f"{number:04d}.{suffix}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    splits = {}
    for split, count in (("train", 16), ("validation", 6)):
        write_shard(tmp_path / f"{split}-0000.tar", count)
        splits[split] = {
            "name": split,
            "num_samples": count,
            "filenames": [f"{split}-0000.tar"],
            "shard_lengths": [count],
        }
    (tmp_path / "_info.json").write_text(json.dumps({"splits": splits}))
    return tmp_path


# webdataset leaves its files for the garbage collector to close.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_shards_of_webdataset_are_read_by_timm(shards: Path) -> None:
    loaders = data("wds/shards", root=str(shards), num_classes=2)
    batches = list(loaders.train_dataloader())
    assert [len(batch.images) for batch in batches] == [8, 8]
    assert set(torch.cat([batch.targets for batch in batches]).tolist()) == {0, 1}
    held_out = list(loaders.val_dataloader())
    assert sum(len(batch.images) for batch in held_out) == 6
    assert torch.cat([batch.targets for batch in held_out]).bincount().tolist() == [3, 3]


def test_a_source_that_timm_cannot_open_says_why(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"timm cannot open wds/none \(split train\)"):
        data("wds/none", root=str(tmp_path / "none"), num_classes=2).train_dataloader()
