# SPDX-License-Identifier: Apache-2.0
"""Fused kernels in C for tensors on a CPU."""

from slideformer.ops.cpu.halves import logits, values, weights
from slideformer.ops.cpu.operators import attend, refusal

__all__ = ["attend", "logits", "refusal", "values", "weights"]
