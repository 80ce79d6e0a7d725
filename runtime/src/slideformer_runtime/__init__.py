# SPDX-License-Identifier: Apache-2.0
"""Runs models that slideformer exported, without PyTorch."""

from slideformer_runtime.answers import Answer, Class, Detections, Found, LabelMap
from slideformer_runtime.errors import UserError
from slideformer_runtime.model import Model
from slideformer_runtime.version import __version__

__all__ = ["Answer", "Class", "Detections", "Found", "LabelMap", "Model", "UserError", "__version__"]
