# SPDX-License-Identifier: Apache-2.0
"""Models for other runtimes, checked there."""

from slideformer.deploy.onnx import export_detector, export_onnx
from slideformer.deploy.retina import RetinaGraph
from slideformer.deploy.verify import (
    DetectionDifference,
    Difference,
    check_sizes,
    verify_detector,
    verify_onnx,
)

__all__ = [
    "DetectionDifference",
    "Difference",
    "RetinaGraph",
    "check_sizes",
    "export_detector",
    "export_onnx",
    "verify_detector",
    "verify_onnx",
]
