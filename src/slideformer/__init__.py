# SPDX-License-Identifier: Apache-2.0
"""Local attention for vision, and the Slide-Transformer models built on it.

Importing this package registers the models with timm. Its names are imported when they are first used, so
that a command that needs no model does not wait for one.
"""

from typing import TYPE_CHECKING

from slideformer.lazy import import_with, lazy_names
from slideformer.version import __version__

if TYPE_CHECKING:
    from slideformer import layers as layers
    from slideformer import models
    from slideformer import ops as ops
    from slideformer.deploy.export import export
    from slideformer.layers import SlideAttention
    from slideformer.ops import (
        backends,
        explain,
        slide_attention,
        slide_attention_logits,
        slide_attention_values,
        slide_attention_weights,
    )
    from slideformer.runs import open_run
    from slideformer.tasks.evaluate import evaluate
    from slideformer.tasks.predict import predict

__all__ = [
    "SlideAttention",
    "__version__",
    "backends",
    "evaluate",
    "explain",
    "export",
    "models",
    "open_run",
    "predict",
    "slide_attention",
    "slide_attention_logits",
    "slide_attention_values",
    "slide_attention_weights",
]

_OPERATOR = (
    "backends",
    "explain",
    "slide_attention",
    "slide_attention_logits",
    "slide_attention_values",
    "slide_attention_weights",
)
__getattr__ = lazy_names(
    __name__,
    {
        **{name: f"slideformer.{name}" for name in ("layers", "models", "ops")},
        "SlideAttention": "slideformer.layers",
        **dict.fromkeys(_OPERATOR, "slideformer.ops"),
        "open_run": "slideformer.runs",
        "predict": "slideformer.tasks.predict",
        "evaluate": "slideformer.tasks.evaluate",
        "export": "slideformer.deploy",
    },
)


def __dir__() -> list[str]:
    """All names, imported or not."""
    return sorted({*globals(), *__all__})


# timm knows the models as soon as it is there itself.
import_with("timm", "slideformer.models")
