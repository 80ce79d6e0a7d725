# SPDX-License-Identifier: Apache-2.0
"""Semantic segmentation among the tasks."""

from __future__ import annotations

from slideformer.tasks.segment.data import SegmentationData
from slideformer.tasks.segment.module import SegmenterLearner
from slideformer.tasks.training.task import Task

SEGMENT = Task(
    name="segment",
    purpose="Train a model that names the class of every pixel.",
    learner=SegmenterLearner,
    data=SegmentationData,
    package="slideformer.tasks.segment",
    short={"--model": "--model.name", "--backbone": "--model.backbone", "--data": "--data.source"},
    links=(("data.num_classes", "model.num_classes", True),),
)
