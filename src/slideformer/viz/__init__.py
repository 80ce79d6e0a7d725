# SPDX-License-Identifier: Apache-2.0
"""Pictures: data in, a PNG out."""

from slideformer.viz.attention import attention_map
from slideformer.viz.benchmark import benchmark_curves
from slideformer.viz.confusion import confusion_matrix
from slideformer.viz.detections import draw_detections, save_detections
from slideformer.viz.grid import picture_grid
from slideformer.viz.patterns import pattern_map
from slideformer.viz.predictions import prediction_grid
from slideformer.viz.segmentation import class_colours, segmentation_picture
from slideformer.viz.training import training_curves

__all__ = [
    "attention_map",
    "benchmark_curves",
    "class_colours",
    "confusion_matrix",
    "draw_detections",
    "pattern_map",
    "picture_grid",
    "prediction_grid",
    "save_detections",
    "segmentation_picture",
    "training_curves",
]
