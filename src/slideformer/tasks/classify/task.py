# SPDX-License-Identifier: Apache-2.0
"""Classification among the tasks."""

from __future__ import annotations

from slideformer.tasks.classify.data import ClassificationData
from slideformer.tasks.classify.module import Classifier
from slideformer.tasks.training.task import Task

CLASSIFY = Task(
    name="classify",
    purpose="Train an image classifier.",
    learner=Classifier,
    data=ClassificationData,
    package="slideformer.tasks.classify",
    short={"--model": "--model.name", "--data": "--data.source"},
    links=(("model.name", "data.model", False), ("data.num_classes", "model.num_classes", True)),
)
