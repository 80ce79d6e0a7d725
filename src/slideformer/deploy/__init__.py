# SPDX-License-Identifier: Apache-2.0
"""Models for other runtimes, checked there."""

from slideformer.deploy.onnx import export_onnx
from slideformer.deploy.verify import Difference, check_sizes, verify_onnx

__all__ = ["Difference", "check_sizes", "export_onnx", "verify_onnx"]
