# SPDX-License-Identifier: Apache-2.0
"""What every runtime makes of a file: a function that runs it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

# Images (B, channels, height, width), contiguous float32 on the CPU, to what the file gives for them.
Run = Callable[[Tensor], list[Tensor]]
