# SPDX-License-Identifier: Apache-2.0
"""A classifier's first batch and predictions, drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from slideformer import viz
from slideformer.runs import open_run
from slideformer.tasks.classify import drawn
from slideformer.tasks.classify.data import ClassificationData
from slideformer.tasks.classify.mix import Mix
from slideformer.tasks.classify.module import Classifier
from slideformer.tasks.evaluate import evaluate
from slideformer.tasks.training.batches import Batch, Stream
from tests.conftest import CLASSES


@pytest.fixture
def data(all_photos: Path) -> ClassificationData:
    return ClassificationData(str(all_photos), "slide_swin_nano", batch_size=4, num_workers=0)


def pixels_of(image: Any, side: int) -> np.ndarray:
    """An enlarged image at its own size."""
    factor = image.width // side
    return np.asarray(image)[::factor, ::factor]


def test_the_first_batch_has_the_pixels_of_the_images_and_the_names_of_their_classes(
    data: ClassificationData, sheet: dict[str, Any]
) -> None:
    how = data.preprocessing
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    scaled = (pixels / 255 - how.mean) / how.std
    drawn.draw_batch(
        Batch(torch.from_numpy(scaled).permute(0, 3, 1, 2).float(), torch.tensor([2, 0, 1])), data
    )
    assert sheet["title"].endswith("as the model sees it (augmented): 3 images")
    names = sorted(CLASSES)
    assert [tile.lines for tile in sheet["tiles"]] == [(names[2],), (names[0],), (names[1],)]
    for tile, expected in zip(sheet["tiles"], pixels, strict=True):
        assert np.abs(pixels_of(tile.image, 32).astype(int) - expected).max() <= 1


def test_a_mixed_image_has_the_shares_of_its_classes_without_the_smoothing(
    data: ClassificationData, sheet: dict[str, Any]
) -> None:
    shares = torch.tensor([[0.4, 0.5, 0.1], [0.05, 0.9, 0.05], [0.1, 0.1, 0.8]])
    drawn.draw_batch(Batch(torch.zeros(3, 3, 32, 32), shares), data)
    first, second, third = sorted(CLASSES)
    assert [tile.lines for tile in sheet["tiles"]] == [
        (f"50 %: {second}", f"40 %: {first}"),
        (f"90 %: {second}",),
        (f"80 %: {third}",),
    ]
    assert "augmented and mixed" in sheet["title"]


def test_images_without_labels_have_none_on_the_sheets(
    photos: Path, finished_run: Path, sheet: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos / "train" / CLASSES[0]
    data = ClassificationData(
        str(folder), "slide_swin_nano", batch_size=4, num_workers=0, teacher=str(finished_run)
    )
    drawn.draw_batch(Batch(torch.zeros(2, 3, 8, 8), torch.zeros(2).long()), data)
    assert "(augmented, without labels)" in sheet["title"]
    assert [tile.lines for tile in sheet["tiles"]] == [(), ()]
    said: dict[str, Any] = {}
    monkeypatch.setattr(viz, "draw_predictions", lambda images, labels, *_, **__: said.update(labels=labels))
    drawn.draw_predictions(open_run(finished_run), data)
    assert said == {"labels": None}


def test_of_a_large_batch_some_are_drawn_and_it_says_so(
    data: ClassificationData, sheet: dict[str, Any]
) -> None:
    drawn.draw_batch(Batch(torch.zeros(40, 3, 8, 8), torch.zeros(40).long()), data)
    assert sheet["title"].endswith("32 of 40 images")
    assert len(sheet["tiles"]) == 32


def test_the_batch_that_is_shown_is_the_one_that_the_model_sees() -> None:
    torch.manual_seed(0)
    module = Classifier("slide_swin_nano", num_classes=3, mix=Mix(mixup=0.8))
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    seen, shown = [], list[Batch]()
    module.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    module.loss.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    module.first_batch = shown.append
    for _ in range(2):
        module.training_step(Batch(torch.randn(5, 3, 32, 32), torch.arange(5) % 3), 0)
    (batch,) = shown
    assert torch.equal(batch.images, seen[0])
    assert torch.equal(batch.targets, seen[1])


def test_the_predictions_are_those_that_are_evaluated(
    finished_run: Path, all_photos: Path, data: ClassificationData, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: dict[str, Any] = {}

    def keep(images: Any, labels: Any, guesses: Any, confidences: Any, names: Any, **options: Any) -> None:
        said.update(labels=labels, guesses=guesses, names=names, **options)

    monkeypatch.setattr(viz, "draw_predictions", keep)
    run = open_run(finished_run)
    drawn.draw_predictions(run, data)
    confusion = evaluate(run, all_photos).confusion  # type: ignore[attr-defined]
    found = torch.zeros_like(confusion)
    for label, guess in zip(said["labels"], said["guesses"], strict=True):
        found[label, guess] += 1
    assert torch.equal(found, confusion)
    assert said["names"] == sorted(CLASSES)
    assert said["subject"] == "hold-out images"


def test_of_a_large_hold_out_some_are_looked_at_and_an_unreadable_one_is_left_out(
    finished_run: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "val" / CLASSES[0] / "0.jpg").write_text("broken")
    data = ClassificationData(str(photos), "slide_swin_nano", batch_size=4, num_workers=0)
    said: dict[str, Any] = {}
    monkeypatch.setattr(
        viz, "draw_predictions", lambda images, *_, **options: said.update(images=images, **options)
    )
    monkeypatch.setattr(drawn, "LOOKED_AT", 3)
    drawn.draw_predictions(open_run(finished_run), data)
    assert len(said["images"]) == 2
    assert said["subject"] == "images from all over the hold-out, which has 9"


class Numbers(Stream):
    """Numbers in place of images, one by one."""

    def __len__(self) -> int:
        return 1000

    def __iter__(self) -> Iterator[tuple[str, Callable[[], tuple[Any, Any]]]]:
        return ((str(n), partial(divmod, n, 2)) for n in range(1000))

    def set_epoch(self, epoch: int) -> None:
        return None


def test_of_a_stream_the_first_images_are_looked_at() -> None:
    data = SimpleNamespace(opened=SimpleNamespace(open=lambda split: Numbers()))
    subject, samples = drawn.held_out(cast("Any", data))
    assert subject == "images from the beginning of the hold-out, which has 1000"
    assert list(samples) == [divmod(n, 2) for n in range(drawn.LOOKED_AT)]
