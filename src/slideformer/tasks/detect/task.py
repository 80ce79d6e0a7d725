# SPDX-License-Identifier: Apache-2.0
"""Detection among the tasks."""

from __future__ import annotations

from slideformer.tasks.detect.data import DetectionData
from slideformer.tasks.detect.module import DetectorLearner
from slideformer.tasks.training.task import Task

DETECT = Task(
    name="detect",
    purpose="Train a detector, of boxes alone or with masks.",
    learner=DetectorLearner,
    data=DetectionData,
    package="slideformer.tasks.detect",
    short={"--model": "--model.name", "--backbone": "--model.backbone", "--data": "--data.source"},
    links=(
        ("model.name", "data.detector", False),
        ("data.num_classes", "model.num_classes", True),
    ),
)
