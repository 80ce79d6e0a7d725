# SPDX-License-Identifier: Apache-2.0
"""What is measured side by side: our backends, and the forms of the operator that others run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from slideformer.ops import backends, explain, slide_attention
from slideformer.ops.window import Border


@dataclass(frozen=True)
class Problem:
    """One size of the operator.

    Attributes:
        batch: B.
        size: side of the square map.
        heads: G.
        head_dim: D.
        kernel_size: K.
        deformed: whether there is a learned shift.
        border: of our own backends; the forms beside them know zeros only.
    """

    batch: int = 8
    size: int = 56
    heads: int = 3
    head_dim: int = 32
    kernel_size: int = 3
    deformed: bool = True
    border: Border = "zeros"

    @property
    def multiply_adds(self) -> int:
        """Of a forward pass, as the paper counts: T a channel for logits and output, T T to deform each."""
        channels = self.batch * self.size**2 * self.heads * self.head_dim
        return 2 * channels * (self.taps + self.taps**2 * self.deformed)

    @property
    def taps(self) -> int:
        """Taps T of a window."""
        return self.kernel_size**2

    def tensors(self) -> Tensors:
        """Random arguments, the same always; float32, each asking for its gradient."""
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int, scale: float = 1.0) -> Tensor:
            return (torch.randn(shape, generator=generator) * scale).requires_grad_()

        maps = [random(self.batch, self.size, self.size, self.heads, self.head_dim) for _ in range(3)]
        learned = random(self.head_dim, self.taps, self.taps, scale=1 / self.kernel_size)
        return Tensors(maps[0], maps[1], maps[2], learned if self.deformed else None)


@dataclass(frozen=True)
class Tensors:
    """Arguments of a call: three maps ``(B, H, W, G, D)`` and the learned shift ``(D, T, T)`` or None."""

    query: Tensor
    key: Tensor
    value: Tensor
    learned: Tensor | None

    def all(self) -> list[Tensor]:
        """Those that there are."""
        return [x for x in (self.query, self.key, self.value, self.learned) if x is not None]


Candidate = Callable[[Tensors, Problem], Tensor]


def ours(backend: str) -> Candidate:
    """One of our backends, the shifts merged in weight space as the layer does."""

    def run(tensors: Tensors, problem: Problem) -> Tensor:
        weight = None
        if tensors.learned is not None:
            weight = tensors.learned + torch.eye(problem.taps)
        return slide_attention(
            tensors.query,
            tensors.key,
            tensors.value,
            kernel_size=problem.kernel_size,
            border=problem.border,
            shift_weight=weight,
            backend=backend,
        )

    return run


def by_convolution(tensors: Tensors, problem: Problem, *, merged: bool) -> Tensor:
    """The paper's form: shifted maps by depthwise convolution, all laid out, then attention elementwise."""
    batch, height, width, heads, channels = tensors.query.shape
    taps, side = problem.taps, problem.kernel_size
    fixed = torch.eye(taps).reshape(taps, 1, side, side).repeat(channels, 1, 1, 1)
    kernels = [fixed]
    if tensors.learned is not None:
        learned = tensors.learned.reshape(channels * taps, 1, side, side)
        kernels = [fixed + learned] if merged else [fixed, learned]

    def images(x: Tensor) -> Tensor:
        return x.permute(0, 3, 4, 1, 2).reshape(batch * heads, channels, height, width)

    def shifted(x: Tensor) -> Tensor:
        copies = [F.conv2d(images(x), kernel, padding=side // 2, groups=channels) for kernel in kernels]
        total = copies[0] if len(copies) == 1 else copies[0] + copies[1]
        return total.reshape(batch, heads, channels, taps, height, width)

    query = (images(tensors.query) * channels**-0.5).reshape(batch, heads, channels, 1, height, width)
    weights = (query * shifted(tensors.key)).sum(2, keepdim=True).softmax(3)
    return (weights * shifted(tensors.value)).sum(3).permute(0, 3, 4, 1, 2)


def by_unfold(tensors: Tensors, problem: Problem) -> Tensor:
    """Plain local attention by ``F.unfold`` (Im2Col), as it is commonly written."""
    batch, height, width, heads, channels = tensors.query.shape

    def columns(x: Tensor) -> Tensor:
        maps = x.permute(0, 3, 4, 1, 2).reshape(batch, heads * channels, height, width)
        unfolded = F.unfold(maps, problem.kernel_size, padding=problem.kernel_size // 2)
        return unfolded.reshape(batch, heads, channels, problem.taps, height * width)

    query = tensors.query.permute(0, 3, 4, 1, 2).reshape(batch, heads, channels, 1, height * width)
    weights = (query * channels**-0.5 * columns(tensors.key)).sum(2, keepdim=True).softmax(3)
    mixed = (weights * columns(tensors.value)).sum(3)
    return mixed.reshape(batch, heads, channels, height, width).permute(0, 3, 4, 1, 2)


AUTHORS = "authors' form"
IM2COL = "F.unfold, not deformed"
OURS = "slideformer "
GEMM, COPY = "product of matrices", "copy of query, key, value and output"
GEMM_SIDE = 2048


def candidates() -> dict[str, Candidate]:
    """All of them by name; the authors' form first: the others are compared with it."""
    table: dict[str, Candidate] = {
        AUTHORS: lambda tensors, problem: by_convolution(tensors, problem, merged=False),
        "authors' form, merged": lambda tensors, problem: by_convolution(tensors, problem, merged=True),
        IM2COL: by_unfold,
    }
    call = torch.empty(1, 1, 1, 1, 1)
    refused = explain(call, call, call).refused
    names = (row.name for row in backends() if row.name != "reference" and row.name not in refused)
    return table | {OURS + name: ours(name) for name in names}


def probes(tensors: Tensors) -> dict[str, Callable[[], object]]:
    """What bounds every candidate: the machine's products of matrices, and its copies."""
    square = torch.randn(GEMM_SIDE, GEMM_SIDE)
    maps = [x.detach().contiguous() for x in (tensors.query, tensors.key, tensors.value, tensors.value)]
    copies = [torch.empty_like(x) for x in maps]
    return {
        GEMM: lambda: torch.mm(square, square),
        COPY: lambda: [y.copy_(x) for x, y in zip(maps, copies, strict=True)],
    }


def expected(name: str, tensors: Tensors, problem: Problem) -> Tensor:
    """What a candidate must give, by the reference; Im2Col knows no deformation."""
    if not name.startswith(OURS):
        problem = replace(problem, border="zeros")
    if name == IM2COL:
        tensors = Tensors(tensors.query, tensors.key, tensors.value, None)
    return ours("reference")(tensors, problem)
