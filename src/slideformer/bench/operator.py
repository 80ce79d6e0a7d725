# SPDX-License-Identifier: Apache-2.0
"""The operator, alone and within an attention layer: our backends, and the forms that others run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from slideformer.bench.authors import (
    ConvolutionAttention,
    UnfoldAttention,
    by_convolution,
    by_unfold,
    fixed_shift,
)
from slideformer.bench.candidate import Candidate, Setting, Step, check, count_gflop, module_step
from slideformer.layers import SlideAttention
from slideformer.layers.window_attention import WindowAttention
from slideformer.ops import backends, explain, slide_attention
from slideformer.ops.window import Border

AUTHORS, MERGED = "authors' form", "authors' form, merged"
IM2COL, NATTEN, WINDOWS = "F.unfold, not deformed", "NATTEN", "window attention, 7 x 7"
OURS = "slideformer "
# Our backends that lay out every window, as the authors' form does.
COPYING = ("conv", "shift", "unfold")


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
        border: of our own backends and NATTEN's; the other forms know zeros only.
    """

    batch: int = 8
    size: int = 56
    heads: int = 3
    head_dim: int = 32
    kernel_size: int = 3
    deformed: bool = True
    border: Border = "zeros"

    @property
    def dim(self) -> int:
        """Channels C of a map."""
        return self.heads * self.head_dim

    @property
    def taps(self) -> int:
        """Taps T of a window."""
        return self.kernel_size**2

    @property
    def map_numbers(self) -> int:
        """Numbers of one map."""
        return self.batch * self.size**2 * self.dim

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of a forward pass: 2 T a channel, for logits and output; 2 T T more if deformed."""
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
        """Random numbers, the same at every call; each tensor requires its gradient."""
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
        """All tensors that there are."""
        return [x for x in (self.query, self.key, self.value, self.learned) if x is not None]


Run = Callable[[Tensors, Problem], Tensor]


class Form(NamedTuple):
    """A way to compute the operator, and how many maps it lays out at once."""

    run: Run
    maps: int


def ours(backend: str) -> Run:
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


def convolutions(*, merged: bool) -> Run:
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
    """Plain local attention by Im2Col."""
    return by_unfold(tensors.query, tensors.key, tensors.value, problem.kernel_size)


def natten(tensors: Tensors, problem: Problem) -> Tensor:
    """Neighborhood attention by NATTEN's own choice of kernel."""
    from natten import na2d  # type: ignore[import-not-found]

    maps = [tensors.query, tensors.key, tensors.value]
    if not torch.is_grad_enabled():
        # On a CPU it rejects tensors that require a gradient.
        maps = [x.detach() for x in maps]
    out: Tensor = na2d(*maps, kernel_size=problem.kernel_size)
    return out


def forms(problem: Problem, setting: Setting) -> dict[str, Form]:
    """All forms by name, the authors' first."""
    taps = problem.taps
    table = {
        AUTHORS: Form(convolutions(merged=False), 6 * taps),
        MERGED: Form(convolutions(merged=True), 4 * taps),
        IM2COL: Form(unfolded, 4 * taps),
    }
    if problem.border == "clamp" and importlib.util.find_spec("natten"):
        table[NATTEN] = Form(natten, 2)
    for name in usable_backends(problem, setting):
        table[OURS + name] = Form(ours(name), 6 * taps if name in COPYING else 1)
    return table


def usable_backends(problem: Problem, setting: Setting) -> list[str]:
    """Our backends that take such a call, but for the reference."""
    call = torch.empty(1, 1, 1, 1, 1, device=setting.device, dtype=setting.dtype)
    rejected = explain(call, call, call, border=problem.border).refused
    return [row.name for row in backends() if row.name != "reference" and row.name not in rejected]


def expected(name: str, tensors: Tensors, problem: Problem) -> Tensor:
    """Return the reference's output for a form; Im2Col knows no deformation."""
    if name != NATTEN and not name.startswith(OURS):
        problem = replace(problem, border="zeros")
    if name == IM2COL:
        tensors = replace(tensors, learned=None)
    return ours("reference")(tensors, problem)


def rejection(form: Form, tensors: Tensors, problem: Problem, setting: Setting) -> str | None:
    """Why another library does not do this work here; None where it does."""
    try:
        with torch.set_grad_enabled(setting.work != "forward"):
            form.run(tensors, problem)
    except (NotImplementedError, RuntimeError, ValueError) as error:
        return str(error).splitlines()[0]
    return None


def is_too_long(name: str, problem: Problem, setting: Setting) -> bool:
    """Whether a form's convolution makes more numbers than PyTorch's on a GPU can count."""
    by_convolution = name.startswith(AUTHORS) or name == f"{OURS}conv"
    on_gpu = torch.device(setting.device).type == "cuda"
    return by_convolution and on_gpu and problem.taps * problem.map_numbers >= 2**31


def operator_candidates(problem: Problem, setting: Setting) -> tuple[list[Candidate], list[str]]:
    """Every form of the operator, checked against the reference, and notes on those left out.

    Raises:
        UserError: a form computes something else.
    """
    tensors = Tensors.of(problem, setting)
    # The reference lays out four times T maps in the tensors' own precision: a part of the batch is enough.
    small = replace(problem, batch=1, size=min(problem.size, 64))
    sample = Tensors.of(small, setting)
    wanted = torch.randn_like(tensors.query)
    map_bytes = tensors.query.element_size() * problem.map_numbers
    # The backward pass has twice as many operations, or two and a half deformed, and eight maps, not four.
    more, maps = (1.0, 4) if setting.work == "forward" else (3.5 if problem.deformed else 3.0, 8)
    gflop = 2 * problem.multiply_adds * more / 1e9
    candidates, notes = [], []
    for name, form in forms(problem, setting).items():
        if not setting.keeps(name):
            continue
        setting.progress(f"checking {name}")
        reason = rejection(form, sample, small, setting) if name == NATTEN else None
        if form.maps * map_bytes * more > setting.memory:
            reason = f"it lays out {form.maps * map_bytes / 2**30:.0f} GiB"
        elif is_too_long(name, problem, setting):
            reason = "it has more numbers than PyTorch's convolutions can count on a GPU"
        if reason is not None:
            notes.append(f"{name} left out: {reason}")
            continue
        with torch.no_grad():
            error = check(name, form.run(sample, small), expected(name, sample, small))
        step = operator_step(form, tensors, wanted, problem, setting)
        candidates.append(Candidate(name, step, gflop, maps * map_bytes / 1e6, problem.batch, error))
    return candidates, notes


def operator_step(form: Form, tensors: Tensors, wanted: Tensor, problem: Problem, setting: Setting) -> Step:
    """A forward pass, or the output and all gradients, given that of the output."""

    def forward() -> Sequence[Tensor]:
        with torch.no_grad():
            return (form.run(tensors, problem),)

    def backward() -> Sequence[Tensor]:
        output = form.run(tensors, problem)
        # Im2Col leaves the shift unused.
        gradients = torch.autograd.grad(output, tensors.all(), wanted, allow_unused=True)
        return [output.detach(), *(x for x in gradients if x is not None)]

    return forward if setting.work == "forward" else backward


def layer_forms(problem: Problem, setting: Setting) -> tuple[SlideAttention, dict[str, nn.Module]]:
    """A layer on the reference, and the same weights in every form by name."""
    torch.manual_seed(0)
    layer = SlideAttention(
        problem.dim, problem.heads, problem.kernel_size, border=problem.border, deform=problem.deformed
    )

    def on(backend: str) -> SlideAttention:
        copy = deepcopy(layer)
        copy.backend = backend
        return copy

    modules: dict[str, nn.Module] = {}
    if problem.deformed:
        modules[AUTHORS] = ConvolutionAttention(deepcopy(layer), merged=False)
        modules[MERGED] = ConvolutionAttention(deepcopy(layer), merged=True)
    modules[IM2COL] = UnfoldAttention(deepcopy(layer))
    modules[WINDOWS] = WindowAttention(problem.dim, problem.heads, 7)
    modules |= {OURS + name: on(name) for name in usable_backends(problem, setting)}
    return on("reference"), modules


def layer_candidates(problem: Problem, setting: Setting) -> tuple[list[Candidate], list[str]]:
    """An attention layer in every form, projections included, and notes on those left out.

    Raises:
        UserError: a form computes something else.
    """
    reference, modules = layer_forms(problem, setting)
    x = torch.randn(problem.batch, problem.size, problem.size, problem.dim).to(setting.device, setting.dtype)
    laid_out = 6 * problem.taps * x.nelement() * x.element_size() * (1 if setting.work == "forward" else 3)
    copying = {AUTHORS, MERGED, IM2COL, *(OURS + name for name in COPYING)}
    candidates, notes = [], []
    for name, module in modules.items():
        if not setting.keeps(name):
            continue
        if name in copying and laid_out > setting.memory:
            notes.append(f"{name} left out: it lays out {laid_out / 2**30:.0f} GiB")
            continue
        setting.progress(f"checking {name}")
        error = None if name in (IM2COL, WINDOWS) else layer_error(name, module, reference, problem)
        gflop = count_gflop(module, torch.empty_like(x[:1], dtype=torch.float32, device="cpu"), setting)
        step = module_step(module, x.clone(), setting)
        candidates.append(Candidate(name, step, gflop * problem.batch, None, problem.batch, error))
    return candidates, notes


def layer_error(name: str, module: nn.Module, reference: nn.Module, problem: Problem) -> float:
    """Relative error of a layer on one small map, in float32; on the CPU, but for Triton."""
    side = min(problem.size, 32)
    x = torch.randn(1, side, side, problem.dim)
    if name == f"{OURS}triton":
        module, reference, x = module.cuda(), deepcopy(reference).cuda(), x.cuda()
    with torch.no_grad():
        return check(name, module.eval()(x), reference.eval()(x))
