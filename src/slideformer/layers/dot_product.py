# SPDX-License-Identifier: Apache-2.0
"""Attention by products: fused where PyTorch does so, else in plain operators."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from slideformer.layers.open_size import open_size
from slideformer.ops.exporting import exporting


def dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """``softmax(Q K^T / sqrt(D) + mask) V``, ``(..., N, E)``.

    Args:
        query: N vectors, ``(..., N, D)``.
        key: M vectors, ``(..., M, D)``.
        value: M vectors, ``(..., M, E)``.
        mask: broadcasts to ``(..., N, M)``: added to the logits or, if bool, true where a query attends.
        dropout: of the attention weights, a probability.
    """
    if open_size(*query.shape, *key.shape) or not (exporting() or learned_on_cpu(query, mask)):
        # The fused operator does not compare open sizes; products that are written out would.
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    # Each exporter decomposes the fused operator in its own way: with tests for fully masked rows, or
    # as an operator of the runtime that takes fewer shapes of masks.
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    if mask is not None:
        logits = logits + mask if mask.dtype != torch.bool else logits.masked_fill(~mask, -torch.inf)
    weights = logits.softmax(-1)
    return (F.dropout(weights, dropout) if dropout else weights) @ value


def learned_on_cpu(query: Tensor, mask: Tensor | None) -> bool:
    """Whether a mask has a gradient, which the operator for a CPU does not compute.

    PyTorch writes it out then, with more copies than products need, and an empty batch gives no gradient. It
    computes half precision in float32, which products would not.
    """
    learned = mask is not None and mask.requires_grad and mask.dtype == query.dtype
    return learned and query.device.type == "cpu" and query.dtype in (torch.float32, torch.float64)
