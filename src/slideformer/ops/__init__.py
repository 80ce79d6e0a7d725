# SPDX-License-Identifier: Apache-2.0
"""The operator: one definition, several backends that agree with it."""

from slideformer.ops.functional import (
    backends,
    explain,
    slide_attention,
    slide_attention_logits,
    slide_attention_values,
    slide_attention_weights,
)

__all__ = [
    "backends",
    "explain",
    "slide_attention",
    "slide_attention_logits",
    "slide_attention_values",
    "slide_attention_weights",
]
