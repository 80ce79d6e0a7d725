# SPDX-License-Identifier: Apache-2.0
"""Runs models that slideformer exported, without PyTorch."""

from typing import TYPE_CHECKING

from slideformer_runtime.errors import UserError
from slideformer_runtime.version import __version__

if TYPE_CHECKING:
    from slideformer_runtime.model import Model
    from slideformer_runtime.results import Classification, Detections, Result, Segmentation, Unreadable

__all__ = [
    "Classification",
    "Detections",
    "Model",
    "Result",
    "Segmentation",
    "Unreadable",
    "UserError",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Import NumPy and the model when they are first used: the command starts, and stops, before that."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from slideformer_runtime import model, results

    return getattr(model if name == "Model" else results, name)
