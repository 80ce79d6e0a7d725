# SPDX-License-Identifier: Apache-2.0
"""Loaders of every kind of source."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import ImageDataset, IterableImageDataset
from torchvision.datasets import FashionMNIST, ImageFolder

from slideformer.errors import UserError
from slideformer.tasks.classify.data import Augment, ClassificationData
from slideformer.tasks.classify.samples import OnImage
from slideformer.tasks.classify.timm_sources import TimmReader, TimmSource, TimmStream, as_image
from slideformer.tasks.images import read_image
from slideformer.tasks.training.batches import Images, ImageStream
from slideformer.tasks.training.callbacks import EpochSeed
from tests.conftest import CLASSES, COUNTS, train
from tests.fashion import write_fashion
from tests.tasks.odd_images import RAMP, REFUSED, SHOWN, encoded, turned_by


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
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"num_workers": -1}, "`num_workers` must be from 0 to 1024, got -1"),
        ({"image_size": 0}, "`image_size` must be from 1 to 4096, got 0"),
        ({"model": "slide_swim"}, "slide_swim"),
        ({"source": "wds/x"}, r"must have its number of classes given, got wds/x alone; set `num_classes`"),
        ({"source": "nowhere"}, "must be a folder, got nowhere, which does not exist"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        data(**{"source": "digits", **options})


def write_shard(path: Path, count: int) -> None:
    """A tar of images with the number of their class, as webdataset has it."""
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


def test_grey_images_of_a_torch_source_are_trained_on(tmp_path: Path) -> None:
    write_fashion(tmp_path, train=20, test=20)
    words = ("--data=torch/fashion_mnist", f"--data.root={tmp_path}", "--data.num_classes=10")
    run = train(tmp_path, tmp_path / "run", *words, "--trainer.max_epochs=2")
    assert (run / "model.safetensors").is_file()


def test_labels_beyond_the_classes_are_refused(tmp_path: Path) -> None:
    write_fashion(tmp_path, train=20, test=20)
    loaders = data("torch/fashion_mnist", root=str(tmp_path), num_classes=5, batch_size=20)
    with pytest.raises(
        UserError, match=r"must be from 0 to 4, got \d; set `num_classes` to the right number"
    ):
        [batch.check() for batch in loaders.train_dataloader()]


@pytest.mark.parametrize("root", [None, "nothing"])
def test_a_source_that_is_not_there_says_how_to_get_it(root: str | None, tmp_path: Path) -> None:
    where = None if root is None else str(tmp_path / root)
    words = "set `root`" if root is None else "set `download` to true to fetch it, where timm can"
    with pytest.raises(UserError, match=words) as caught:
        data("torch/fashion_mnist", root=where, num_classes=10).prepare_data()
    assert "\n" not in str(caught.value)


def test_a_download_that_fails_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(dataset: Any) -> None:
        Path(dataset.raw_folder).mkdir(parents=True)
        raise OSError("no network")

    monkeypatch.setattr(FashionMNIST, "download", fail)
    with pytest.raises(UserError, match="no network"):
        data("torch/fashion_mnist", root=str(tmp_path / "x"), num_classes=10, download=True).prepare_data()
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_any_image_of_a_source_of_timm_is_what_slideformer_reads(name: str, tmp_path: Path) -> None:
    content, wanted = SHOWN[name][0], np.asarray(read_image(SHOWN[name][0]))
    for given in (content, io.BytesIO(content), Image.open(io.BytesIO(content))):
        np.testing.assert_array_equal(np.asarray(as_image(given)), wanted)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_images_of_a_stream_become_rgb_and_unreadable_ones_are_left_out(tmp_path: Path) -> None:
    kinds = ("16 bits, PNG", "palette with transparency, PNG", "four inks, TIFF", "8 bits, PNG")
    images = [SHOWN[name][0] for name in kinds] + [REFUSED["floats to 255"][0], SHOWN["BMP"][0]]
    for split in ("train", "validation"):
        with tarfile.open(tmp_path / f"{split}-0000.tar", "w") as tar:
            for number, content in enumerate(images):
                for suffix, bytes_ in (("jpg", content), ("cls", str(number % 2).encode())):
                    entry = tarfile.TarInfo(f"{number:04d}.{suffix}")
                    entry.size = len(bytes_)
                    tar.addfile(entry, io.BytesIO(bytes_))
    splits = {
        split: {"name": split, "num_samples": 6, "filenames": [f"{split}-0000.tar"], "shard_lengths": [6]}
        for split in ("train", "validation")
    }
    (tmp_path / "_info.json").write_text(json.dumps({"splits": splits}))
    (batch,) = data("wds/kinds", root=str(tmp_path), num_classes=2).val_dataloader()
    assert batch.images.shape == (5, 3, 32, 32)
    assert batch.unreadable == ("image 4 of wds/kinds",)
    spread = (batch.images - batch.images[0]).abs().amax((1, 2, 3))
    assert spread.max() < 0.1  # all show the same


def timm_source(name: str, num_classes: int = 1) -> TimmSource:
    return TimmSource(
        name=name,
        root=None,
        splits={},
        num_classes=num_classes,
        batch_size=1,
        num_workers=0,
        download=False,
    )


class Named:
    """A reader of timm's that gives open files."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[object, int]:
        return self.files[index].open("rb"), index


def test_a_reader_of_files_gives_each_image_itself(tmp_path: Path) -> None:
    files = []
    for number, name in enumerate(("16 bits, TIFF", "8 bits, PNG", "floats to 255")):
        files.append(tmp_path / str(number))
        files[-1].write_bytes((SHOWN.get(name) or REFUSED[name])[0])
    images = Images(
        TimmReader(timm_source("hfds/x", 3), ImageDataset("", reader=Named(files))),
        OnImage(np.asarray),
        "skip",
    )
    assert [images[n][1] for n in (0, 1)] == [0, 1]
    np.testing.assert_array_equal(images[0][0], images[1][0])
    assert images[2].path == "image 2 of hfds/x"


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_folder_read_by_torchvision_is_turned_and_decoded_once(
    orientation: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = encoded(Image.fromarray(RAMP), "jpeg", exif=turned_by(orientation), quality=100)
    (tmp_path / "kiwi").mkdir()
    (tmp_path / "kiwi" / "0.jpg").write_bytes(content)
    wanted, opened, open_file = read_image(content), [], Image.open
    monkeypatch.setattr(Image, "open", lambda *words: opened.append(1) or open_file(*words))
    reader = TimmReader(timm_source("torch/image_folder"), ImageFolder(str(tmp_path)))
    image, target = reader[0]
    assert (image.size, image.tobytes(), target) == (wanted.size, wanted.tobytes(), 0)
    assert len(opened) == 1


class Fails:
    """A data set that decodes by itself."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> tuple[object, int]:
        raise OSError("image file is truncated")


def test_an_image_that_a_data_set_itself_cannot_decode_is_unreadable() -> None:
    reader = TimmReader(timm_source("torch/x"), Fails())
    assert Images(reader, OnImage(np.asarray), "skip")[0].path == "image 0 of torch/x"


class Shuffled:
    """A reader of timm's that shuffles by the number of the epoch."""

    epoch = -1

    def set_epoch(self, count: int) -> None:
        self.epoch = count


def test_a_stream_gets_the_number_of_its_epoch() -> None:
    reader, trainer = Shuffled(), MagicMock(current_epoch=7, global_rank=0)
    stream = TimmStream(timm_source("wds/x"), IterableImageDataset("", reader=reader))
    trainer.train_dataloader.dataset = ImageStream(stream, OnImage(np.asarray), "skip")
    EpochSeed().on_train_epoch_start(trainer, MagicMock())
    assert reader.epoch == 7
