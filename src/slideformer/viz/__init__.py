# SPDX-License-Identifier: Apache-2.0
"""Pictures: data in, a PNG out."""

from slideformer.viz.attention import attention_map
from slideformer.viz.benchmark import benchmark_curves
from slideformer.viz.confusion import confusion_matrix
from slideformer.viz.patterns import pattern_map
from slideformer.viz.predictions import prediction_grid
from slideformer.viz.training import training_curves

__all__ = [
    "attention_map",
    "benchmark_curves",
    "confusion_matrix",
    "pattern_map",
    "prediction_grid",
    "training_curves",
]
