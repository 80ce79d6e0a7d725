# SPDX-License-Identifier: Apache-2.0
"""Figures and drawn images."""

from slideformer.viz.attention import attention_map
from slideformer.viz.benchmark import benchmark_curves
from slideformer.viz.confusion import confusion_matrix
from slideformer.viz.drawn import class_colours, draw_classes, draw_detections, draw_segmentation
from slideformer.viz.grid import image_grid, prediction_grid
from slideformer.viz.patterns import pattern_map
from slideformer.viz.training import training_curves

__all__ = [
    "attention_map",
    "benchmark_curves",
    "class_colours",
    "confusion_matrix",
    "draw_classes",
    "draw_detections",
    "draw_segmentation",
    "image_grid",
    "pattern_map",
    "prediction_grid",
    "training_curves",
]
