# SPDX-License-Identifier: Apache-2.0
"""Figures and drawn images."""

from slideformer.viz.accuracy import accuracy_figure
from slideformer.viz.attention import attention_map
from slideformer.viz.benchmark import benchmark_curves
from slideformer.viz.classes import draw_classes
from slideformer.viz.confusion import confusion_matrix
from slideformer.viz.detections import draw_detections
from slideformer.viz.patterns import pattern_map
from slideformer.viz.predictions import draw_predictions
from slideformer.viz.segmentation import class_colours, draw_segmentation
from slideformer.viz.sheet import draw_sheet
from slideformer.viz.training import training_curves

__all__ = [
    "accuracy_figure",
    "attention_map",
    "benchmark_curves",
    "class_colours",
    "confusion_matrix",
    "draw_classes",
    "draw_detections",
    "draw_predictions",
    "draw_segmentation",
    "draw_sheet",
    "pattern_map",
    "training_curves",
]
