# SPDX-License-Identifier: Apache-2.0
"""Local attention as attention of all positions to all, with a mask: what PyTorch has for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_mask, flex_attention

from slideformer.bench.problem import Problem, Tensors
from slideformer.ops.reference import neighbours

# Queries, and keys, of a block that is computed or left out as one.
BLOCK = 128
# Bytes for each pair of positions while the mask is made: places of both along an axis, in 64 bits, and more.
MASK_BYTES = 40

Sees = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def sees(problem: Problem) -> Sees:
    """Whether a query attends to a key, both given by their place in the flat map; as PyTorch asks for it.

    Arithmetic, as its own examples: the places that `Axis` knows would be loads in its compiled kernel.
    """
    axes = [(axis.size, axis.kernel_size, axis.border) for axis in problem.window.axes(problem.map_size)]

    def sees_key(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = query >= 0
        for size, side, border in reversed(axes):
            first = query % size - side // 2
            if border == "clamp":
                first = first.clamp(0, size - side)
            tap = key % size - first
            if border == "wrap":
                tap = tap % size
            seen = seen & (tap >= 0) & (tap < side)
            query, key = query // size, key // size
        return seen

    return sees_key


def by_dense_mask(tensors: Tensors, problem: Problem) -> Tensor:
    """Masked ``scaled_dot_product_attention``: ``(B, *map, G, D)``."""
    query, key, value = separated(tensors)
    mask = dense_mask(problem, str(query.device))
    return joined(F.scaled_dot_product_attention(query, key, value, attn_mask=mask), problem)


def by_blocks(tensors: Tensors, problem: Problem) -> Tensor:
    """Compiled ``flex_attention``, which leaves out blocks that no query sees: ``(B, *map, G, D)``."""
    mask = block_mask(problem, str(tensors.query.device))
    return joined(compiled(problem)(*separated(tensors), block_mask=mask), problem)


def separated(tensors: Tensors) -> list[Tensor]:
    """Query, key and value as PyTorch takes them: ``(B, *map, G, D)`` to ``(B, G, N, D)``."""
    given = tensors if torch.is_grad_enabled() else tensors.detached()
    return [x.flatten(1, -3).transpose(1, 2) for x in (given.query, given.key, given.value)]


def joined(x: Tensor, problem: Problem) -> Tensor:
    """The reverse of `separated`."""
    return x.transpose(1, 2).unflatten(1, problem.map_size)


# Made once for a problem, before it is timed, as whoever uses them would; the last one is kept.
@lru_cache(maxsize=1)
def dense_mask(problem: Problem, device: str) -> Tensor:
    """Which keys each query sees: ``(N, N)``, bool."""
    size = problem.positions
    mask: Tensor = create_mask(sees(problem), None, None, size, size, device=device)
    return mask[0, 0]


@lru_cache(maxsize=1)
def block_mask(problem: Problem, device: str) -> BlockMask:
    """The same by blocks: only those that hold a key which one of their queries sees."""
    size, count = problem.positions, -(-problem.positions // BLOCK)
    places = torch.arange(1, size + 1).reshape(1, *problem.map_size, 1, 1)
    seen = neighbours(places, problem.window).reshape(size, -1)  # (N, T), 0 outside the map
    queries = torch.arange(size)[:, None].expand_as(seen)
    needed = torch.zeros(count, count, dtype=torch.int32)
    needed[queries[seen > 0] // BLOCK, (seen[seen > 0] - 1) // BLOCK] = 1
    numbers = needed.sum(1, dtype=torch.int32)[None, None].to(device)
    order = needed.argsort(dim=1, descending=True, stable=True).int()[None, None].to(device)
    return BlockMask.from_kv_blocks(
        numbers, order, BLOCK_SIZE=BLOCK, mask_mod=sees(problem), seq_lengths=(size, size)
    )


@lru_cache(maxsize=1)
def compiled(problem: Problem) -> Callable[..., Tensor]:
    """``flex_attention`` compiled for one problem."""
    # PyTorch counts how often a function is compiled, and stops silently after some sizes.
    torch._dynamo.reset()
    return torch.compile(flex_attention, dynamic=False)
