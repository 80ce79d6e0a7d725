# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from slideformer.dense.segmenter import create_segmenter
from slideformer.dense.sliding import Sliding
from slideformer.errors import UserError
from slideformer.runs import Blueprint, Run
from slideformer.tasks.evaluate import confusion_of
from slideformer.tasks.evaluate import evaluate as evaluate_data
from slideformer.tasks.segment.evaluate import (
    SegmentationEvaluation,
    evaluate,
    segment,
)
from slideformer.tasks.training.batches import Batch
from tests.tasks.segment.pictures import NAMES


def brute_force(labels: Tensor, targets: Tensor, classes: int) -> tuple[list[float], list[float], float]:
    """IoU and accuracy of each class and of all pixels, by sets of pixels."""
    predicted, true = labels.flatten().tolist(), targets.flatten().tolist()
    places = [i for i, target in enumerate(true) if target != 255]
    ious, accuracies = [], []
    for number in range(classes):
        here = {i for i in places if true[i] == number}
        said = {i for i in places if predicted[i] == number}
        ious.append(len(here & said) / len(here | said) if here | said else float("nan"))
        accuracies.append(len(here & said) / len(here) if here else float("nan"))
    return ious, accuracies, sum(true[i] == predicted[i] for i in places) / len(places)


@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_sets_of_pixels(seed: int) -> None:
    """Class 5 is only predicted, class 6 only there, class 7 neither."""
    torch.manual_seed(seed)
    targets = torch.randint(0, 5, (2, 9, 11))
    targets[torch.rand(targets.shape) < 0.2] = 255
    targets[0, 0, 0], targets[0, 0, 1] = 6, 0
    labels = torch.where(torch.rand(targets.shape) < 0.6, targets % 5, torch.randint(0, 5, targets.shape))
    labels[0, 0, 1] = 5
    found = SegmentationEvaluation(tuple("abcdefgh"), confusion_of(labels, targets, 8))
    ious, accuracies, aacc = brute_force(labels, targets, 8)
    np.testing.assert_allclose(found.ious.numpy(), ious)
    np.testing.assert_allclose(found.accuracies.numpy(), accuracies)
    assert found.miou == pytest.approx(np.nanmean(ious))
    assert found.macc == pytest.approx(np.nanmean(accuracies))
    assert found.aacc == pytest.approx(aacc)
    assert np.isnan(ious).sum() == 1
    assert np.isnan(accuracies).sum() == 2
    assert found.per_class()[7] == {"name": "h", "pixels": 0, "iou": None, "accuracy": None}
    assert found.table().splitlines()[8].split() == ["h", "-", "-"]


def test_figures_are_torchmetrics_where_all_classes_are_there() -> None:
    torch.manual_seed(0)
    targets = torch.randint(0, 4, (3, 20, 20))
    labels = torch.where(torch.rand(targets.shape) < 0.5, targets, torch.randint(0, 4, targets.shape))
    targets[:, :3] = 255
    found = SegmentationEvaluation(tuple("abcd"), confusion_of(labels, targets, 4))
    for figure, metric in (
        (found.miou, MulticlassJaccardIndex(4, ignore_index=255)),
        (found.macc, MulticlassAccuracy(4, average="macro", ignore_index=255)),
        (found.aacc, MulticlassAccuracy(4, average="micro", ignore_index=255)),
    ):
        assert figure == pytest.approx(float(metric(labels, targets)), abs=1e-6)


class Brightest(nn.Module):
    """The channel of a pixel that is brightest is its class."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def batches(count: int, size: tuple[int, int] = (8, 10)) -> list[Batch]:
    random = torch.Generator().manual_seed(0)
    images = [torch.rand(1, 3, *size, generator=random) for _ in range(count)]
    return [Batch(image, image.argmax(1)) for image in images]


@pytest.mark.parametrize("sliding", [None, Sliding(4, 3)], ids=["whole", "sliding"])
def test_every_picture_is_counted_once(sliding: Sliding | None) -> None:
    done: list[tuple[int, int]] = []
    given = [*batches(3), Batch(torch.empty(0, 3, 1, 1), torch.empty(0, 1, 1), ("bad.jpg",))]
    found = evaluate(
        Brightest(), given, NAMES, sliding=sliding, images=list("abcd"), progress=lambda *x: done.append(x)
    )
    assert (found.images, found.unreadable, found.miou) == (3, ("bad.jpg",), 1.0)
    assert int(found.confusion.sum()) == 3 * 80
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_logits_of_a_resized_picture_are_brought_to_its_own_size() -> None:
    image = torch.rand(3, 8, 10)
    wanted = nn.functional.interpolate(image[None], (20, 15), mode="bilinear").argmax(1)[0]
    assert torch.equal(segment(Brightest(), image, (20, 15)), wanted.int())
    windows = segment(Brightest(), image, (16, 20), sliding=Sliding(8, 8))
    assert torch.equal(windows, image.argmax(0).repeat_interleave(2, 0).repeat_interleave(2, 1).int())


class Elsewhere(nn.Module):
    """A model on a device that has no pixels, which tells where it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), device="meta"))
        self.asked: set[str] = set()

    def forward(self, image: Tensor) -> Tensor:
        self.asked.add(image.device.type)
        return torch.rand(1, 3, *image.shape[-2:])


@pytest.mark.parametrize("size", [(8, 9), (16, 18)], ids=["own", "resized"])
@pytest.mark.parametrize("sliding", [None, Sliding(4, 4)], ids=["whole", "windows"])
def test_a_picture_is_brought_to_where_the_model_is(size: tuple[int, int], sliding: Sliding | None) -> None:
    model = Elsewhere()
    assert segment(model, torch.rand(3, 8, 9), size, sliding=sliding).shape == size
    assert model.asked == {"meta"}


def test_nothing_to_count_is_told() -> None:
    empty = Batch(torch.rand(1, 3, 4, 4), torch.full((1, 4, 4), 255))
    with pytest.raises(UserError, match="there must be a labelled pixel to evaluate"):
        evaluate(Brightest(), [empty], NAMES)


def test_a_saved_model_is_evaluated_on_a_folder(labelled: Path, tmp_path: Path) -> None:
    model = create_segmenter("semantic_fpn", "slide_swin_nano", 3, channels=8, head_channels=8).eval()
    blueprint = Blueprint("segment", "slide_swin_nano", 3, "semantic_fpn")
    run = Run(model=model, blueprint=blueprint, class_names=NAMES, short_side=20)
    seen: list[tuple[int, int]] = []
    found = evaluate_data(run, labelled, progress=lambda *x: seen.append(x))
    assert isinstance(found, SegmentationEvaluation)
    assert int(found.confusion.sum()) == 2 * 40 * 48
    assert seen == [(1, 2), (2, 2)]
    assert found.to_dict()["classes"][1]["name"] == "square"
    (labelled / "classes.txt").write_text("ground\nsquare\nring\n")
    with pytest.raises(UserError, match="must have the model's classes, ground, square, bar, got"):
        evaluate_data(run, labelled)
