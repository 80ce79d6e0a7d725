# SPDX-License-Identifier: Apache-2.0
"""A teacher answers as it would alone, and leaves no trace in what it teaches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from torch import nn

from slideformer.errors import UserError
from slideformer.runs import open_run, save_run
from slideformer.runs.classifier import classifier_run
from slideformer.runs.preprocessing import EvalTransform, Preprocessing
from slideformer.tasks.classify.data import preprocessing_of
from slideformer.tasks.classify.distil import Distil
from slideformer.tasks.classify.module import Classifier
from slideformer.tasks.classify.teacher import Teacher, open_teacher, read_teacher
from tests.dense.small_detectors import small_run
from tests.saved import save_classifier
from tests.tasks.odd_images import RAMP

NAME = "slide_swin_nano"
SEEN = preprocessing_of(NAME, None)


def small(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(NAME, num_classes=3, **options).eval()


def run_of(model: nn.Module, **preprocessing: Any) -> Any:
    run = classifier_run(model, arguments={})
    assert run.preprocessing is not None
    return replace(run, preprocessing=replace(run.preprocessing, **preprocessing))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The run of a plain host of three classes."""
    save_classifier(small(slide_stages=()), tmp_path / "host")
    return tmp_path / "host"


def classifier(folder: Path, **options: Any) -> Classifier:
    torch.manual_seed(1)
    return Classifier(NAME, num_classes=3, teacher=str(folder), drop_path_rate=0.0, **options)


def test_a_host_teaches_its_sliding_model_logits_and_maps(folder: Path) -> None:
    module = classifier(folder)
    assert module.notes == [f"teacher: {folder} (slide_swin_nano), logits and 4 stage maps"]
    assert module.teacher is not None
    images = torch.randn(2, 3, 32, 32)
    wanted = open_run(folder).model.forward_intermediates(images)[1]
    for x, y in zip(module.teacher(images).maps, wanted, strict=True):
        torch.testing.assert_close(x, y)


def test_the_loss_is_of_labels_and_teacher_together(folder: Path) -> None:
    module = classifier(folder, distil=Distil(maps=0.0)).eval()
    assert module.teacher is not None
    images, targets = torch.randn(4, 3, 32, 32), torch.arange(4) % 3
    logits = module.model(images)
    divergence = module.distil.loss(module.teacher(images)._replace(logits=logits), module.teacher(images))
    both = divergence + nn.functional.cross_entropy(logits, targets)
    torch.testing.assert_close(module.loss_of(images, targets), both)


def test_a_teacher_is_not_a_part_of_what_it_teaches(folder: Path) -> None:
    module, alone = classifier(folder), Classifier(NAME, num_classes=3)
    assert module.teacher is not None
    assert module.state_dict().keys() == alone.state_dict().keys()
    assert [name for name, _ in module.named_parameters()] == [name for name, _ in alone.named_parameters()]
    before = {name: x.clone() for name, x in module.teacher.model.state_dict().items()}
    module.train()
    module.loss_of(torch.randn(4, 3, 32, 32), torch.arange(4) % 3).backward()
    assert not any(layer.training for layer in module.teacher.model.modules())
    assert all(x.grad is None and not x.requires_grad for x in module.teacher.model.parameters())
    assert all(x.grad is not None for x in module.model.parameters())
    assert all(torch.equal(x, before[name]) for name, x in module.teacher.model.state_dict().items())


def test_a_teacher_sees_images_with_its_own_normalisation() -> None:
    own = Preprocessing(**{**SEEN.values(), "mean": (0.5, 0.4, 0.3), "std": (0.1, 0.2, 0.3)})
    model = small()
    image = Image.fromarray(RAMP).convert("RGB")
    teacher = Teacher(run_of(model, mean=own.mean, std=own.std), small(), SEEN)
    with torch.no_grad():
        wanted = model(EvalTransform(own)(image)[None])
    torch.testing.assert_close(teacher(EvalTransform(SEEN)(image)[None]).logits, wanted)


def test_a_teacher_of_one_size_sees_resized_images() -> None:
    model = timm.create_model("test_vit", num_classes=3).eval()
    teacher = Teacher(run_of(model), small(), SEEN)
    assert str(teacher) == "teacher: test_vit (test_vit), logits alone, from images resized to 160 x 160"
    colour = torch.tensor([0.3, -0.2, 0.5]).view(1, 3, 1, 1)
    found = teacher(colour.expand(1, 3, 32, 32)).logits
    # Of one colour, whatever the way it is resized.
    large = replace(SEEN, input_size=(3, 160, 160))
    torch.testing.assert_close(
        found, Teacher(run_of(model), small(), large)(colour.expand(1, 3, 160, 160)).logits
    )


def test_a_model_of_other_maps_teaches_logits_alone() -> None:
    teacher = Teacher(run_of(timm.create_model("test_resnet", num_classes=3).eval()), small(), SEEN)
    assert teacher(torch.randn(1, 3, 32, 32)).maps == []
    assert str(teacher).endswith("logits alone")


def test_trying_a_teacher_leaves_the_student_in_its_mode(folder: Path) -> None:
    assert all(layer.training for layer in classifier(folder).model.modules())


def test_timms_weights_teach(monkeypatch: pytest.MonkeyPatch) -> None:
    published = timm.create_model("test_resnet", num_classes=1000)
    with monkeypatch.context() as context:  # in place of the network
        context.setattr(timm, "create_model", lambda name, pretrained: {"test_resnet": published}[name])
        run = open_teacher("test_resnet", 1000)
    assert run.model is published
    assert not run.model.training
    assert run.preprocessing == preprocessing_of("test_resnet", None)


def test_other_weights_are_another_teacher() -> None:
    one, other = (Teacher(run_of(model), small(), SEEN) for model in (small(), small()))
    assert one.digest == other.digest
    with torch.no_grad():
        next(other.model.parameters())[0] += 1
    assert one.digest != other.digest
    assert one.digest.startswith("slide_swin_nano ")


def detector(folder: Path) -> str:
    save_run(small_run("retinanet"), folder / "detector")
    return str(folder / "detector")


def of_grey_images(folder: Path) -> str:
    model = timm.create_model(NAME, num_classes=3, in_chans=1)
    save_classifier(model, folder / "grey", input_size=(1, 28, 28), mean=(0.1,), std=(0.3,))
    return str(folder / "grey")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "nowhere",
            r"`teacher` must be the folder of a finished run, or a name that timm knows, got nowhere",
        ),
        (
            "resnet18",
            r"`teacher` must have the 3 classes of the model, got resnet18 with 1000; give one that",
        ),
        ("vit_small_patch14_dinov2", r"`teacher` must be a classifier, got vit_small_.* without classes"),
        (detector, r"`teacher` must be the run of a classifier, got .*detector, which is of the task detect"),
        (of_grey_images, r"`teacher` must take RGB images, got .*grey for 1 channels; give another one"),
        (lambda folder: str(folder), "config.json"),
    ],
    ids=("no run", "other classes", "no classes", "detector", "grey", "no model"),
)
def test_what_cannot_teach_is_refused(source: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        Classifier(NAME, num_classes=3, teacher=source if isinstance(source, str) else source(tmp_path))


def test_a_name_without_published_weights_is_refused() -> None:
    with pytest.raises(UserError, match=r"timm must have weights of slide_swin_nano, but .*; give a run"):
        open_teacher(NAME, read_teacher(NAME).blueprint.num_classes)


class Picky(nn.Module):
    """A model that refuses a size as timm's do."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise AssertionError("Input height (32) doesn't match model (48).")


def test_a_teacher_that_does_not_take_the_images_is_refused() -> None:
    run = replace(run_of(small()), model=Picky())
    with pytest.raises(UserError) as caught:
        Teacher(run, small(), SEEN)
    assert str(caught.value) == (
        "`teacher` must take the model's images of 32 x 32, but slide_swin_nano does not: Input height (32) "
        "doesn't match model (48).; choose another `image_size` or teacher"
    )


def test_answers_that_are_not_finite_end_the_training(folder: Path) -> None:
    module = classifier(folder)
    assert module.teacher is not None
    with torch.no_grad():
        next(module.teacher.model.parameters())[0] = torch.nan
    with pytest.raises(UserError, match=r"the teacher .*host: a model must give finite answers, got nan"):
        module.loss_of(torch.randn(2, 3, 32, 32), torch.tensor([0, 1]))


def test_a_teacher_of_nothing_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="`distil` must leave something to learn, got logits 0 and no stage"):
        classifier(folder, distil=Distil(logits=0.0, maps=0.0))


def test_images_without_labels_must_have_a_teacher() -> None:
    with pytest.raises(UserError, match="images without labels must have a `teacher`, got none; give one"):
        Classifier(NAME, num_classes=3, labelled=False)
