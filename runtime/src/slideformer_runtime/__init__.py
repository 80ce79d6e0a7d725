# SPDX-License-Identifier: Apache-2.0
"""Runs models that slideformer exported, without PyTorch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from slideformer_runtime.errors import UserError
from slideformer_runtime.version import __version__

if TYPE_CHECKING:
    from slideformer_runtime.answers import Answer, Class, Detections, Found, LabelMap
    from slideformer_runtime.model import Model

__all__ = ["Answer", "Class", "Detections", "Found", "LabelMap", "Model", "UserError", "__version__"]


def __getattr__(name: str) -> Any:
    """What needs NumPy, imported when it is first used: the command starts, and stops, before that."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'model' if name == 'Model' else 'answers'}"), name)
