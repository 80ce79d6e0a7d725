# SPDX-License-Identifier: Apache-2.0
"""Parts of numbered images: always the same ones, held out or left to train on, never both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.datasets import FashionMNIST
from torchvision.transforms.functional import pil_to_tensor

from slideformer.errors import UserError
from slideformer.tasks.classify.data import ClassificationData
from slideformer.tasks.classify.parts import first_images, held_out
from slideformer.tasks.classify.sources import Request, open_hold_out, open_source
from slideformer.tasks.training.batches import Stream
from tests.fashion import write_fashion

NAME = "torch/fashion_mnist"


class Numbers:
    """A reader whose images are their own numbers."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[int, int]:
        return index, 0

    def name(self, index: int) -> str:
        return f"number {index}"


def numbers(part: Any) -> list[int]:
    return [part[i][0] for i in range(len(part))]


@pytest.mark.parametrize(("count", "fraction", "held"), [(100, 0.2, 20), (7, 0.001, 1), (7, 0.999, 6)])
def test_a_hold_out_and_the_rest_are_all_images_once(count: int, fraction: float, held: int) -> None:
    train, val = (held_out(Numbers(count), fraction, split, "x") for split in ("train", "val"))
    assert len(val) == held
    assert sorted(numbers(train) + numbers(val)) == list(range(count))
    assert numbers(val) == numbers(held_out(Numbers(count), fraction, "val", "x"))
    assert [val.name(i) for i in range(held)] == [f"number {n}" for n in numbers(val)]


@pytest.mark.parametrize("splits", [{"train_split": "tran"}, {"val_split": "tset"}])
def test_a_split_that_is_not_there_is_refused_instead_of_the_test_split(
    splits: dict[str, str], tmp_path: Path
) -> None:
    write_fashion(tmp_path, train=20, test=20)
    with pytest.raises(
        UserError, match=r"a split of torch/fashion_mnist must be one of .*, got (tran|tset)$"
    ):
        open_source(Request(name=NAME, root=str(tmp_path), **splits))
    if "val_split" in splits:
        with pytest.raises(UserError, match=r"must be one of .*, got tset$"):
            open_hold_out(NAME, root=str(tmp_path), split="tset")


@pytest.mark.parametrize(("train", "val"), [("train", "training"), ("test", "validation")])
def test_one_split_is_not_trained_on_and_held_out(train: str, val: str, tmp_path: Path) -> None:
    write_fashion(tmp_path, train=20, test=20)
    with pytest.raises(UserError, match=f"must have different images, got {train} and {val} of"):
        open_source(Request(name=NAME, root=str(tmp_path), train_split=train, val_split=val))


def test_a_hold_out_is_drawn_at_random() -> None:
    val = numbers(held_out(Numbers(1000), 0.5, "val", "x"))
    assert abs(sum(val) / len(val) - 500) < 50
    assert val != sorted(val)


def test_more_images_hold_all_of_fewer() -> None:
    assert numbers(first_images(Numbers(50), 20))[:9] == numbers(first_images(Numbers(50), 9))
    assert sorted(numbers(first_images(Numbers(50), 50))) == list(range(50))


def test_more_images_than_there_are_are_refused() -> None:
    with pytest.raises(UserError, match="`train_images` must be at most the 5 images to train on, got 6"):
        first_images(Numbers(5), 6)


def test_one_image_is_not_held_out() -> None:
    with pytest.raises(UserError, match="x must hold 2 images, one to train on and one to hold out, got 1"):
        held_out(Numbers(1), 0.5, "val", "x")


def test_a_stream_has_no_part() -> None:
    class Nothing(Stream):
        def __len__(self) -> int:
            return 0

        def __iter__(self) -> Any:
            return iter(())

        def set_epoch(self, epoch: int) -> None:
            """Do nothing."""

    with pytest.raises(UserError, match=r"must give its images by number .*, got the stream wds/x"):
        held_out(Nothing(), 0.5, "val", "wds/x")


def test_fashion_mnist_is_held_out_of_its_training_split_and_has_its_class_names(tmp_path: Path) -> None:
    write_fashion(tmp_path, train=30, test=8)
    source = open_source(Request(name=NAME, root=str(tmp_path), val_fraction=0.2))
    assert source.class_names == tuple(FashionMNIST.classes)
    assert source.named
    parts: list[Any] = [source.open(split) for split in ("train", "val")]
    assert [len(part) for part in parts] == [24, 6]
    shown = [pil_to_tensor(part[i][0])[0] for part in parts for i in range(len(part))]
    wanted = FashionMNIST(str(tmp_path), train=True).data
    assert torch.stack(shown).flatten(1).sort(0)[0].equal(wanted.flatten(1).sort(0)[0])


def test_without_a_fraction_the_hold_out_is_the_test_split(tmp_path: Path) -> None:
    write_fashion(tmp_path, train=30, test=8)
    reader: Any = open_source(Request(name=NAME, root=str(tmp_path))).open("val")
    assert len(reader) == 8
    assert pil_to_tensor(reader[3][0])[0].equal(FashionMNIST(str(tmp_path), train=False).data[3])


def test_a_training_takes_as_many_images_as_are_asked_for(tmp_path: Path) -> None:
    write_fashion(tmp_path, train=30, test=8)
    options: dict[str, Any] = {"model": "slide_swin_nano", "root": str(tmp_path), "num_workers": 0}
    data = ClassificationData(NAME, val_fraction=0.2, train_images=16, batch_size=8, **options)
    assert [len(batch.images) for batch in data.train_dataloader()] == [8, 8]
    assert sum(len(batch.images) for batch in data.val_dataloader()) == 6
    with pytest.raises(UserError, match="at most the 24 images"):
        ClassificationData(NAME, val_fraction=0.2, train_images=25, **options).train_dataloader()


def test_missing_files_say_both_ways_to_get_them(tmp_path: Path) -> None:
    data = ClassificationData(NAME, model="slide_swin_nano", root=str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"set `download` to true .*; Debian has the same files") as caught:
        data.prepare_data()
    assert f"{tmp_path}/none/FashionMNIST/raw" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hold_out_holds_no_image_that_is_trained_on(tmp_path: Path) -> None:
    write_fashion(tmp_path, train=40, test=8)
    options: dict[str, Any] = {"root": str(tmp_path), "val_fraction": 0.25}
    data = ClassificationData(NAME, model="slide_swin_nano", num_workers=0, train_images=20, **options)
    trained: Any = data.train_images()
    held: Any = open_hold_out(NAME, num_classes=10, **options).open("val")
    names = [{part.name(i) for i in range(len(part))} for part in (trained.reader, held)]
    assert [len(found) for found in names] == [20, 10]
    assert not names[0] & names[1]


def test_a_hold_out_of_two_kinds_is_refused(tmp_path: Path) -> None:
    write_fashion(tmp_path, train=40, test=8)
    with pytest.raises(
        UserError, match="`split` and `val_fraction` are two hold-outs of torch/fashion_mnist"
    ):
        open_hold_out(NAME, 0.25, root=str(tmp_path), split="test", num_classes=10)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ""),
        ({"val_fraction": 0.25}, "--val-fraction 0.25"),
        ({"val_split": "test"}, "--split test"),
    ],
)
def test_the_words_of_an_evaluation_name_the_hold_out(
    options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    data = ClassificationData(NAME, model="slide_swin_nano", root=str(tmp_path), **options)
    assert data.evaluate_words == ["--data", NAME, "--root", str(tmp_path), *words.split()]
    digits = ClassificationData("digits", model="slide_swin_nano", root=str(tmp_path))
    assert digits.evaluate_words == ["--data", "digits"]


def test_an_evaluation_of_missing_files_has_no_download_to_set(tmp_path: Path) -> None:
    source = open_hold_out(NAME, root=str(tmp_path), num_classes=10)
    with pytest.raises(UserError, match="timm cannot open") as caught:
        source.open("val")
    assert "`download`" not in str(caught.value)
    assert "Debian has the same files" in str(caught.value)
