# SPDX-License-Identifier: Apache-2.0
"""A mark for functions whose result a compiler takes as a constant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Answer = TypeVar("Answer", bound=Callable[..., Any])


def assumed_constant(function: Answer) -> Answer:
    """Mark a function that the compiler does not trace: it calls it once and keeps the result.

    The same mark as that of ``torch.compiler.assume_constant_result``, which imports all of the compiler, a
    second of work, to set it.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
