# SPDX-License-Identifier: Apache-2.0
"""The operator by itself: our backends, and the forms that others run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from slideformer.bench.authors import by_convolution, by_unfold, fixed_shift
from slideformer.bench.candidate import Candidate, Setting, check
from slideformer.ops import backends, explain, slide_attention
from slideformer.ops.window import Border

AUTHORS = "authors' form"
IM2COL = "F.unfold, not deformed"
NATTEN = "NATTEN"
OURS = "slideformer "


@dataclass(frozen=True)
class Problem:
    """One size of the operator, or of a layer around it.

    Attributes:
        batch: B.
        size: side of the square map.
        heads: G.
        head_dim: D.
        kernel_size: K.
        deformed: whether there is a learned shift.
        border: of our own backends and NATTEN's; the forms beside them know zeros only.
    """

    batch: int = 8
    size: int = 56
    heads: int = 3
    head_dim: int = 32
    kernel_size: int = 3
    deformed: bool = True
    border: Border = "zeros"

    @property
    def taps(self) -> int:
        """Taps T of a window."""
        return self.kernel_size**2

    @property
    def map_numbers(self) -> int:
        """Numbers of one map."""
        return self.batch * self.size**2 * self.heads * self.head_dim

    @property
    def multiply_adds(self) -> int:
        """Of a forward pass, as the paper counts: T a channel for logits and output, T T to deform each."""
        return 2 * self.map_numbers * (self.taps + self.taps**2 * self.deformed)


@dataclass(frozen=True)
class Tensors:
    """Arguments of a call: three maps ``(B, H, W, G, D)`` and the learned shift ``(D, T, T)`` or None."""

    query: Tensor
    key: Tensor
    value: Tensor
    learned: Tensor | None

    @classmethod
    def of(cls, problem: Problem, setting: Setting) -> Tensors:
        """Random numbers, the same always, each tensor asking for its gradient."""
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int, dtype: torch.dtype = setting.dtype, scale: float = 1.0) -> Tensor:
            numbers = torch.randn(shape, generator=generator) * scale
            return numbers.to(setting.device, dtype).requires_grad_()

        shape = (problem.batch, problem.size, problem.size, problem.heads, problem.head_dim)
        maps = [random(*shape) for _ in range(3)]
        scale = 1 / problem.kernel_size
        learned = random(problem.head_dim, problem.taps, problem.taps, dtype=torch.float32, scale=scale)
        return cls(maps[0], maps[1], maps[2], learned if problem.deformed else None)

    def all(self) -> list[Tensor]:
        """Those that there are."""
        return [x for x in (self.query, self.key, self.value, self.learned) if x is not None]


Form = Callable[[Tensors, Problem], Tensor]


def ours(backend: str) -> Form:
    """One of our backends, the shifts merged in weight space as the layer does."""

    def run(tensors: Tensors, problem: Problem) -> Tensor:
        weight = None
        if tensors.learned is not None:
            weight = tensors.learned + torch.eye(problem.taps, device=tensors.learned.device)
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


def convolutions(merged: bool) -> Form:
    """The paper's two convolutions, or the one that they merge into."""

    def run(tensors: Tensors, problem: Problem) -> Tensor:
        fixed = fixed_shift(problem.head_dim, problem.kernel_size).to(tensors.query)
        kernels = [fixed]
        if tensors.learned is not None:
            learned = tensors.learned.to(fixed.dtype).reshape(fixed.shape)
            kernels = [fixed + learned] if merged else [fixed, learned]
        return by_convolution(tensors.query, tensors.key, tensors.value, kernels)

    return run


def unfolded(tensors: Tensors, problem: Problem) -> Tensor:
    """Im2Col."""
    return by_unfold(tensors.query, tensors.key, tensors.value, problem.kernel_size)


def natten(tensors: Tensors, problem: Problem) -> Tensor:
    """Neighborhood attention by NATTEN's own choice of kernel."""
    from natten import na2d  # type: ignore[import-not-found]

    maps = [tensors.query, tensors.key, tensors.value]
    if not torch.is_grad_enabled():
        # On a CPU it refuses whatever asks for a gradient.
        maps = [x.detach() for x in maps]
    out: Tensor = na2d(*maps, kernel_size=problem.kernel_size)
    return out


def forms(problem: Problem, setting: Setting) -> dict[str, tuple[Form, int]]:
    """All forms by name, the authors' first, and how many maps each lays out at once."""
    taps = problem.taps
    table: dict[str, tuple[Form, int]] = {
        AUTHORS: (convolutions(merged=False), 6 * taps),
        "authors' form, merged": (convolutions(merged=True), 4 * taps),
        IM2COL: (unfolded, 4 * taps),
    }
    if problem.border == "clamp" and importlib.util.find_spec("natten"):
        table[NATTEN] = (natten, 2)
    call = torch.empty(1, 1, 1, 1, 1, device=setting.device, dtype=setting.dtype)
    refused = explain(call, call, call, border=problem.border).refused
    laid_out = {"conv": 6 * taps, "shift": 6 * taps, "unfold": 6 * taps}
    for row in backends():
        if row.name != "reference" and row.name not in refused:
            table[OURS + row.name] = ours(row.name), laid_out.get(row.name, 1)
    return table


def expected(name: str, tensors: Tensors, problem: Problem) -> Tensor:
    """What a form must give, by the reference; Im2Col knows no deformation."""
    if name != NATTEN and not name.startswith(OURS):
        problem = replace(problem, border="zeros")
    if name == IM2COL:
        tensors = replace(tensors, learned=None)
    return ours("reference")(tensors, problem)


def refusal(form: Form, tensors: Tensors, problem: Problem, setting: Setting) -> str | None:
    """Why another library does not do this work here; None where it does."""
    try:
        with torch.set_grad_enabled(setting.work != "forward"):
            form(tensors, problem)
    except (NotImplementedError, RuntimeError, ValueError) as error:
        return str(error).splitlines()[0]
    return None


def too_long(name: str, problem: Problem, setting: Setting) -> bool:
    """Whether a form's convolution makes more numbers than PyTorch's on a GPU can count."""
    by_convolution = name.startswith(AUTHORS) or name == f"{OURS}conv"
    on_gpu = torch.device(setting.device).type == "cuda"
    return by_convolution and on_gpu and problem.taps * problem.map_numbers >= 2**31


def operator_candidates(
    problem: Problem,
    setting: Setting,
    *,
    only: Sequence[str] = (),
    memory: float = float("inf"),
    progress: Callable[[str], None] = lambda words: None,
) -> tuple[list[Candidate], list[str]]:
    """Every form of the operator, checked against the reference, and notes on those left out.

    Args:
        problem: sizes.
        setting: device, dtype and work.
        only: parts of the names to keep; all without any.
        memory: bytes that a form may lay out.
        progress: told what is being done.

    Raises:
        UserError: a form computes something else.
    """
    tensors = Tensors.of(problem, setting)
    # The definition lays out four times T maps in the tensors' own precision: a part of the batch tells.
    small = replace(problem, batch=1, size=min(problem.size, 64))
    sample = Tensors.of(small, setting)
    wanted = torch.randn_like(tensors.query)
    bytes_of_map = tensors.query.element_size() * problem.map_numbers
    # The backward pass has twice as many operations, or two and a half deformed, and eight maps, not four.
    more = 1.0 if setting.work == "forward" else (3.5 if problem.deformed else 3.0)
    maps = 4 if setting.work == "forward" else 8
    candidates, notes = [], []
    for name, (form, laid_out) in forms(problem, setting).items():
        if only and not any(word in name for word in only):
            continue
        if laid_out * bytes_of_map * more > memory:
            notes.append(f"{name} left out: it lays out {laid_out * bytes_of_map / 2**30:.0f} GiB")
            continue
        if too_long(name, problem, setting):
            notes.append(
                f"{name} left out: it has more numbers than PyTorch's convolutions can count on a GPU"
            )
            continue
        progress(f"checking {name}")
        if name == NATTEN and (reason := refusal(form, sample, small, setting)):
            notes.append(f"{name} left out: {reason}")
            continue
        with torch.no_grad():
            error = check(name, form(sample, small), expected(name, sample, small))

        def step(form: Form = form, name: str = name) -> Sequence[Tensor]:
            if setting.work == "forward":
                with torch.no_grad():
                    return (form(tensors, problem),)
            inputs = tensors.all()
            output = form(tensors, problem)
            # Im2Col leaves the shift aside.
            gradients = torch.autograd.grad(output, inputs, wanted, allow_unused=True)
            return [output.detach(), *(x for x in gradients if x is not None)]

        gflop = 2 * problem.multiply_adds * more / 1e9
        candidates.append(Candidate(name, step, gflop, maps * bytes_of_map / 1e6, problem.batch, error))
    return candidates, notes
