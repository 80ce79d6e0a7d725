# SPDX-License-Identifier: Apache-2.0
"""Accuracy is what scikit-learn makes of the same predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, top_k_accuracy_score
from torch import nn
from torchvision.datasets import FashionMNIST

from slideformer.errors import UserError
from slideformer.runs import EvalTransform, open_run, save_run
from slideformer.runs.classifier import classifier_run
from slideformer.tasks.classify.evaluate import ClassificationEvaluation, evaluate
from slideformer.tasks.classify.sources import open_hold_out
from slideformer.tasks.evaluate import evaluate as evaluate_run
from slideformer.tasks.training.batches import Batch
from tests.conftest import CLASSES, COUNTS
from tests.fashion import write_fashion

NAMES = tuple("abcdefg")


@pytest.fixture(scope="module")
def answers() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, len(NAMES), generator=generator)
    targets = torch.randint(len(NAMES) - 1, (50,), generator=generator)  # the last class never comes
    return logits, targets


def evaluation(answers: tuple[torch.Tensor, torch.Tensor]) -> ClassificationEvaluation:
    logits, targets = answers
    batches = [
        Batch(images, truth, ("bad.jpg",) if start == 0 else ())
        for start, (images, truth) in enumerate(zip(logits.split(20), targets.split(20), strict=True))
    ]
    return evaluate(nn.Identity(), batches, NAMES)


def evaluated(run: Path, data: Path | str, **options: int) -> ClassificationEvaluation:
    result = evaluate_run(open_run(run), data, **options)
    assert isinstance(result, ClassificationEvaluation)
    return result


def test_the_figures_are_scikit_learns(answers: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, targets = answers
    result = evaluation(answers)
    guesses, labels = logits.argmax(1), range(len(NAMES))
    assert result.confusion.tolist() == confusion_matrix(targets, guesses, labels=labels).tolist()
    assert result.top1 == pytest.approx(float((guesses == targets).float().mean()))
    assert result.top5 == pytest.approx(top_k_accuracy_score(targets, logits, k=5, labels=list(labels)))
    assert result.loss == pytest.approx(float(nn.functional.cross_entropy(logits, targets)))
    precision, recall, _, images = precision_recall_fscore_support(
        targets, guesses, labels=labels, zero_division=0
    )
    for row, *expected in zip(result.per_class(), precision, recall, images, strict=True):
        assert [row["precision"] or 0, row["recall"] or 0, row["images"]] == pytest.approx(expected)
    assert result.unreadable == ("bad.jpg",)


def test_a_class_without_images_has_no_recall(answers: tuple[torch.Tensor, torch.Tensor]) -> None:
    last = evaluation(answers).per_class()[-1]
    assert last["recall"] is None
    assert last["images"] == 0


def test_a_batch_of_nothing_readable_is_left_out(finished_run: Path, photos: Path) -> None:
    bad = photos / "val" / "kiwi" / "0.jpg"
    bad.write_text("no picture")
    found = evaluated(finished_run, photos, batch_size=1)
    assert found.unreadable == (str(bad),)
    assert found.images == 8


def test_nothing_to_evaluate_is_refused() -> None:
    with pytest.raises(UserError, match="there must be an image to evaluate, got none"):
        evaluate(nn.Identity(), [], NAMES)


def test_a_run_is_as_good_as_its_training_said(finished_run: Path, all_photos: Path) -> None:
    result = evaluated(finished_run, all_photos)
    assert result.top1 == 1.0
    assert result.class_names == tuple(sorted(CLASSES))
    assert result.images == len(CLASSES) * COUNTS["val"]


def test_other_classes_are_refused(finished_run: Path) -> None:
    message = "must have the model's 3 classes, got without kiwi, lemon, .* and with the foreign 0, 1, 2"
    with pytest.raises(UserError, match=message):
        evaluated(finished_run, "digits")


def test_a_run_is_evaluated_on_what_its_training_held_out(
    finished_run: Path, photos: Path, tmp_path: Path
) -> None:
    run = replace(open_run(finished_run), val_fraction=0.25)
    save_run(run, tmp_path / "run")
    opened = open_run(tmp_path / "run")
    folder = photos / "train"
    counts = [row["images"] for row in evaluate_run(opened, folder).to_dict()["classes"]]
    held_out = open_hold_out(str(folder), 0.25).open("val")
    assert counts == [sum(target == n for _, target in held_out.images) for n in range(len(CLASSES))]
    part = evaluate_run(opened, folder)
    assert "on the part of each class that the training held out, 0.25; a val_fraction of 1" in str(part)
    assert evaluate_run(opened, folder, val_fraction=1).images == COUNTS["train"] * len(CLASSES)
    # A folder with val/ has a hold-out of its own.
    assert evaluate_run(opened, photos).images == COUNTS["val"] * len(CLASSES)


def test_other_data_without_enough_images_to_hold_a_part_out_gets_a_hint(
    finished_run: Path, photos: Path
) -> None:
    for path in sorted((photos / "train" / CLASSES[0]).iterdir())[1:]:
        path.unlink()
    run = replace(open_run(finished_run), val_fraction=0.25)
    with pytest.raises(UserError, match=r"add images; or set `val_fraction` 1 to evaluate on all of it"):
        evaluate_run(run, photos / "train")


def test_a_source_of_timm_is_evaluated_by_its_folder_and_split(finished_run: Path, tmp_path: Path) -> None:
    write_fashion(tmp_path, train=30, test=20)
    run = open_run(finished_run)
    model = timm.create_model("slide_swin_nano", num_classes=10).eval()
    how = run.preprocessing
    assert how is not None
    own = classifier_run(model, class_names=FashionMNIST.classes, preprocessing=how)
    for split, train in ((None, False), ("train", True)):
        found = evaluate_run(own, "torch/fashion_mnist", root=str(tmp_path), split=split)
        assert isinstance(found, ClassificationEvaluation)
        dataset = FashionMNIST(str(tmp_path), train=train)
        images = torch.stack([EvalTransform(how)(image.convert("RGB")) for image, _ in dataset])
        guesses = model(images).argmax(1)
        assert found.images == len(dataset)
        assert found.top1 == pytest.approx(float((guesses == dataset.targets).float().mean()))
    held = evaluate_run(own, "torch/fashion_mnist", root=str(tmp_path), val_fraction=0.2)
    assert held.to_dict()["images"] == 6


def test_folder_and_split_go_with_a_source_of_timm_alone(finished_run: Path, photos: Path) -> None:
    with pytest.raises(UserError, match="`root` and `split` go with a source of timm, got"):
        evaluate_run(open_run(finished_run), photos, root="x")


def test_a_source_of_torchvision_without_its_folder_is_refused(finished_run: Path) -> None:
    model = timm.create_model("slide_swin_nano", num_classes=10).eval()
    own = classifier_run(model, class_names=(), preprocessing=open_run(finished_run).preprocessing)
    with pytest.raises(UserError, match="must have a folder; set `root`"):
        evaluate_run(own, "torch/fashion_mnist")
