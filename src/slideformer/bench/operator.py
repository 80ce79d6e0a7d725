# SPDX-License-Identifier: Apache-2.0
"""The operator, alone and within an attention layer: our backends, and the forms that others run."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
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
from slideformer.bench.masked import MASK_BYTES, by_blocks, by_dense_mask
from slideformer.bench.problem import Problem, Tensors
from slideformer.layers import SlideAttention
from slideformer.layers.window_attention import WindowAttention
from slideformer.ops import (
    backends,
    explain,
    slide_attention,
    slide_attention_values,
    slide_attention_weights,
)

AUTHORS, MERGED = "authors' form", "authors' form, merged"
IM2COL, NATTEN, WINDOWS = "F.unfold, not deformed", "NATTEN", "window attention, 7 x 7"
FLEX, DENSE = "flex_attention, compiled", "scaled_dot_product_attention, N x N mask"
OURS = "slideformer "
TENTH_MASKED, HALVES = "slideformer, a tenth masked", "slideformer, two halves"
# Of other libraries: the reason why they cannot compute something is theirs to give.
OTHERS = (NATTEN, FLEX, DENSE)
# Our backends that lay out every window, as the authors' form does.
COPYING = ("conv", "shift", "unfold")
# Positions of the part of a map that is checked: the reference lays out four times T maps.
CHECKED = 64**2

Run = Callable[[Tensors, Problem], Tensor]


def ours(backend: str, *, masked: bool = False) -> Run:
    """One of our backends, the shifts merged in weight space as the layer does."""

    def run(tensors: Tensors, problem: Problem) -> Tensor:
        window = problem.window
        return slide_attention(
            tensors.query,
            tensors.key,
            tensors.value,
            kernel_size=window.kernel_size,
            border=window.border,
            key_mask=tensors.key_mask if masked else None,
            shift_weight=merged_shift(tensors),
            backend=backend,
        )

    return run


def in_halves(tensors: Tensors, problem: Problem) -> Tensor:
    """Attention weights, then values by them, as where something is done to the weights."""
    window, weight = problem.window, merged_shift(tensors)
    sides, border = window.kernel_size, window.border
    weights = slide_attention_weights(
        tensors.query, tensors.key, kernel_size=sides, border=border, shift_weight=weight
    )
    return slide_attention_values(
        weights, tensors.value, kernel_size=sides, border=border, shift_weight=weight
    )


def merged_shift(tensors: Tensors) -> Tensor | None:
    """The learned shift added to the fixed one, ``(D, T, T)``."""
    if tensors.learned is None:
        return None
    return tensors.learned + torch.eye(tensors.learned.shape[-1], device=tensors.learned.device)


def with_zeros(tensors: Tensors, problem: Problem) -> Tensor:
    """The reference with zeros around the map, which is all that some forms know."""
    return REFERENCE(tensors, replace(problem, border="zeros"))


def plain_with_zeros(tensors: Tensors, problem: Problem) -> Tensor:
    """The same without the shift."""
    return with_zeros(replace(tensors, learned=None), problem)


REFERENCE = ours("reference")


class Form(NamedTuple):
    """A way to compute the operator.

    Attributes:
        run: computes it.
        maps: how many it lays out at once.
        wanted: the reference for its output.
        refusal: the reason why it cannot compute this problem, as a sentence, or None.
    """

    run: Run
    maps: float
    wanted: Run = REFERENCE
    refusal: str | None = None


def convolutions(*, merged: bool) -> Run:
    """The paper's two convolutions, or the one that they merge into."""

    def run(tensors: Tensors, problem: Problem) -> Tensor:
        fixed = fixed_shift(problem.head_dim, problem.window.kernel_size[0]).to(tensors.query)
        kernels = [fixed]
        if tensors.learned is not None:
            learned = tensors.learned.to(fixed.dtype).reshape(fixed.shape)
            kernels = [fixed + learned] if merged else [fixed, learned]
        return by_convolution(tensors.query, tensors.key, tensors.value, kernels)

    return run


def unfolded(tensors: Tensors, problem: Problem) -> Tensor:
    """Plain local attention by Im2Col."""
    return by_unfold(tensors.query, tensors.key, tensors.value, problem.window.kernel_size[0])


def natten(tensors: Tensors, problem: Problem) -> Tensor:
    """Neighborhood attention by NATTEN's own choice of kernel."""
    import natten  # type: ignore[import-not-found]

    # On a CPU it rejects tensors that require a gradient.
    given = tensors if torch.is_grad_enabled() else tensors.detached()
    attend = getattr(natten, f"na{len(problem.map_size)}d")
    out: Tensor = attend(given.query, given.key, given.value, kernel_size=problem.window.kernel_size)
    return out


def forms(problem: Problem, setting: Setting) -> dict[str, Form]:
    """All forms by name, the authors' first."""
    taps, bytes_a_number = problem.taps, setting.dtype.itemsize
    # What is laid out for each pair of positions, in maps.
    a_pair = problem.positions / (problem.dim * problem.batch * bytes_a_number)
    scores = 4 * 4 * problem.positions / (problem.head_dim * bytes_a_number)
    on_cpu = torch.device(setting.device).type == "cpu"
    square, everywhere = square_refusal(problem), global_refusal(problem)
    table = {
        AUTHORS: Form(convolutions(merged=False), 6 * taps, with_zeros, square),
        MERGED: Form(convolutions(merged=True), 4 * taps, with_zeros, square),
        IM2COL: Form(unfolded, 4 * taps, plain_with_zeros, square),
        NATTEN: Form(natten, scores if on_cpu else 2, refusal=natten_refusal(problem)),
        FLEX: Form(by_blocks, 4, refusal=everywhere),
        DENSE: Form(by_dense_mask, MASK_BYTES * a_pair, refusal=everywhere),
    }
    for name in usable_backends(problem, setting):
        table[OURS + name] = Form(ours(name), 6 * taps if name in COPYING else 1)
    table[TENTH_MASKED] = Form(
        ours("auto", masked=True), 2, ours("reference", masked=True), mask_refusal(problem)
    )
    table[HALVES] = Form(in_halves, 1 + 3 * taps / problem.head_dim)
    return table


def square_refusal(problem: Problem) -> str | None:
    """Why a form by two-dimensional convolutions or Im2Col cannot compute a problem."""
    if len(problem.map_size) == 2 and len(set(problem.window.kernel_size)) == 1:
        return None
    return "it is written for maps of two axes and square windows"


def global_refusal(problem: Problem) -> str | None:
    """Why attention of all positions to all, masked, cannot compute a problem."""
    if problem.deformed:
        return "it has no learned shift"
    if "zeros" in problem.window.border:
        return "it leaves out what is outside the map, where border zeros has zero vectors"
    return None


def natten_refusal(problem: Problem) -> str | None:
    """Why NATTEN cannot compute a problem."""
    if problem.deformed:
        return "it has no learned shift"
    if set(problem.window.border) != {"clamp"}:
        return "its windows slide inward at every border, as with clamp"
    return None if importlib.util.find_spec("natten") else "it is not installed"


def mask_refusal(problem: Problem) -> str | None:
    """Why our operator takes no mask with a problem."""
    if problem.deformed and not problem.window.zeros:
        return "a shift with a mask needs border zeros along every axis"
    return None


def usable_backends(problem: Problem, setting: Setting) -> list[str]:
    """Our backends that take such a call, but for the reference."""
    window = problem.window
    call = torch.empty(1, *window.kernel_size, 1, 1, device=setting.device, dtype=setting.dtype)
    rejected = explain(call, call, call, kernel_size=window.kernel_size, border=window.border).refused
    return [row.name for row in backends() if row.name != "reference" and row.name not in rejected]


def rejection(form: Form, tensors: Tensors, problem: Problem, setting: Setting) -> str | None:
    """Why another library does not do this work here; None where it does."""
    try:
        with torch.set_grad_enabled(setting.work != "forward"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            form.run(tensors, problem)
    except (NotImplementedError, RuntimeError, ValueError) as error:
        return str(error).splitlines()[0]
    return None


def left_out(name: str, form: Form, problem: Problem, setting: Setting) -> str | None:
    """Why a form is not measured, before it has run; None where it is."""
    if form.refusal is not None:
        return form.refusal
    laid_out = form.maps * map_bytes(problem, setting)
    if laid_out * more_work(problem, setting) > setting.memory:
        return f"it lays out {laid_out / 2**30:.0f} GiB"
    by_convolution = name.startswith(AUTHORS) or name == f"{OURS}conv"
    on_gpu = torch.device(setting.device).type == "cuda"
    if by_convolution and on_gpu and problem.taps * problem.map_numbers >= 2**31:
        return "it has more numbers than PyTorch's convolutions can count on a GPU"
    return None


def map_bytes(problem: Problem, setting: Setting) -> int:
    """Bytes of one map, of all the batch."""
    return problem.map_numbers * setting.dtype.itemsize


def more_work(problem: Problem, setting: Setting) -> float:
    """Operations of the measured work, compared with a forward pass."""
    # The backward pass has twice as many operations, or two and a half deformed.
    return 1.0 if setting.work == "forward" else (3.5 if problem.deformed else 3.0)


def operator_candidates(problem: Problem, setting: Setting) -> tuple[list[Candidate], list[str]]:
    """Every form of the operator, checked against the reference, and notes on those left out.

    Raises:
        UserError: a form computes something else.
    """
    tensors = Tensors.of(problem, setting)
    small = checked_part(problem)
    sample = Tensors.of(small, setting)
    wanted = torch.randn_like(tensors.query)
    # The backward pass moves eight maps, not four.
    maps = 4 if setting.work == "forward" else 8
    gflop = 2 * problem.multiply_adds * more_work(problem, setting) / 1e9
    megabytes = maps * map_bytes(problem, setting) / 1e6
    candidates, notes = [], []
    for name, form in forms(problem, setting).items():
        if not setting.keeps(name):
            continue
        setting.progress(f"checking {name}")
        reason = left_out(name, form, problem, setting)
        if reason is None and name in OTHERS:
            reason = rejection(form, sample, small, setting)
        if reason is not None:
            notes.append(f"{name} left out: {reason}")
            continue
        with torch.no_grad():
            error = check(name, form.run(sample, small), form.wanted(sample, small))
        step = operator_step(form, tensors, wanted, problem, setting)
        if name == FLEX:
            setting.progress(f"compiling {name}")
            step()
        candidates.append(Candidate(name, step, gflop, megabytes, problem.batch, error))
    return candidates, notes


def checked_part(problem: Problem) -> Problem:
    """One map of the problem, no larger than what is checked but no smaller than a window."""
    most = round(CHECKED ** (1 / len(problem.map_size)))
    axes = zip(problem.map_size, problem.window.kernel_size, strict=True)
    return replace(problem, batch=1, size="x".join(str(min(size, max(most, side))) for size, side in axes))


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
    (side, *_), (border, *_) = problem.window.kernel_size, problem.window.border
    layer = SlideAttention(problem.dim, problem.heads, side, border=border, deform=problem.deformed)

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
    x = torch.randn(problem.batch, *problem.map_size, problem.dim).to(setting.device, setting.dtype)
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
    x = torch.randn(1, *(min(side, 32) for side in problem.map_size), problem.dim)
    if name == f"{OURS}triton":
        module, reference, x = module.cuda(), deepcopy(reference).cuda(), x.cuda()
    with torch.no_grad():
        return check(name, module.eval()(x), reference.eval()(x))
