# SPDX-License-Identifier: Apache-2.0
"""Arguments in messages become the options of the command line of a training."""

from __future__ import annotations

import pytest

from slideformer.errors import UserError
from slideformer.tasks.classify.data import ClassificationData
from slideformer.tasks.images import UnreadableImageError
from slideformer.tasks.table import CLASSIFY, DETECT, SEGMENT, Task
from slideformer.tasks.training.options import naming_options, with_options


@pytest.mark.parametrize(
    ("task", "argument", "option"),
    [
        (CLASSIFY, "batch_size", "--batch-size"),
        (CLASSIFY, "augment.scale", "--data.augment.scale"),
        (CLASSIFY, "num_classes", "--data.num_classes"),
        (CLASSIFY, "mix.mixup", "--model.mix.mixup"),
        (CLASSIFY, "optimise.lr", "--lr"),
        (CLASSIFY, "optimise", "--model.optimise"),
        (CLASSIFY, "source", "--data"),
        (CLASSIFY, "data", "--data"),
        (CLASSIFY, "name", "--model"),
        (DETECT, "backbone", "--backbone"),
        (DETECT, "val_images", "--data.val_images"),
        (SEGMENT, "crop_size", "--image-size"),
        (SEGMENT, "max_epochs", "--epochs"),
        (SEGMENT, "output", "--output"),
        (SEGMENT, "resume", "--resume"),
        (SEGMENT, "colour", "`colour`"),
    ],
)
def test_an_argument_becomes_its_option(task: Task, argument: str, option: str) -> None:
    assert with_options(task, f"`{argument}` must be 1") == f"{option} must be 1"


def test_a_command_in_a_message_stays() -> None:
    message = "`slideformer check-data detect DIR` lists them"
    assert with_options(DETECT, message) == message


def test_the_library_names_arguments_and_a_training_options() -> None:
    with pytest.raises(UserError) as caught:
        ClassificationData("digits", batch_size=0)
    assert str(caught.value) == "`batch_size` must be at least 1, got 0"
    with pytest.raises(UserError) as caught, naming_options(CLASSIFY):
        ClassificationData("digits", batch_size=0)
    assert str(caught.value) == "--batch-size must be at least 1, got 0"


def test_an_error_keeps_its_kind_and_its_cause() -> None:
    cause = OSError("gone")
    with (
        pytest.raises(UnreadableImageError, match=r"with --data\.on_bad_image skip") as caught,
        naming_options(CLASSIFY),
    ):
        raise UnreadableImageError("leave it out with `on_bad_image` skip") from cause
    assert caught.value.__cause__ is cause
