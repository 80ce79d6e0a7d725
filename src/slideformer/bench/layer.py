# SPDX-License-Identifier: Apache-2.0
"""A whole attention layer, projections included, on our backends and in the forms that others run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from slideformer.bench.authors import ConvolutionAttention, UnfoldAttention
from slideformer.bench.candidate import Candidate, Setting, check, count_gflop, module_step
from slideformer.bench.operator import AUTHORS, IM2COL, OURS, Problem
from slideformer.layers import SlideAttention
from slideformer.layers.window_attention import WindowAttention
from slideformer.ops import backends, explain

WINDOWS = "window attention, 7 x 7"


def layer_candidates(
    problem: Problem,
    setting: Setting,
    *,
    only: Sequence[str] = (),
    memory: float = float("inf"),
    progress: Callable[[str], None] = lambda words: None,
) -> tuple[list[Candidate], list[str]]:
    """The layer in every form, with the same weights, and notes on those left out.

    Raises:
        UserError: a form computes something else.
    """
    torch.manual_seed(0)
    dim = problem.heads * problem.head_dim
    x = torch.randn(problem.batch, problem.size, problem.size, dim).to(setting.device, setting.dtype)
    layer = SlideAttention(
        dim, problem.heads, problem.kernel_size, border=problem.border, deform=problem.deformed
    )
    call = torch.empty(1, 1, 1, 1, 1, device=setting.device, dtype=setting.dtype)
    refused = explain(call, call, call, border=problem.border).refused
    modules: dict[str, nn.Module] = {}
    if problem.deformed:
        modules[AUTHORS] = ConvolutionAttention(deepcopy(layer), merged=False)
        modules["authors' form, merged"] = ConvolutionAttention(deepcopy(layer), merged=True)
    modules[IM2COL] = UnfoldAttention(deepcopy(layer))
    modules[WINDOWS] = WindowAttention(dim, problem.heads, 7)
    for row in backends():
        if row.name != "reference" and row.name not in refused:
            modules[OURS + row.name] = deepcopy(layer)
            modules[OURS + row.name].backend = row.name  # type: ignore[assignment]
    reference = deepcopy(layer)
    reference.backend = "reference"
    laid_out = 6 * problem.taps * x.nelement() * x.element_size() * (1 if setting.work == "forward" else 3)
    copying = {
        AUTHORS,
        "authors' form, merged",
        IM2COL,
        *(OURS + name for name in ("conv", "shift", "unfold")),
    }
    candidates, notes = [], []
    for name, module in modules.items():
        if only and not any(word in name for word in only):
            continue
        if name in copying and laid_out > memory:
            notes.append(f"{name} left out: it lays out {laid_out / 2**30:.0f} GiB")
            continue
        progress(f"checking {name}")
        error = None if name in (IM2COL, WINDOWS) else compare(name, module, reference, problem)
        gflop = count_gflop(module, torch.empty_like(x[:1], dtype=torch.float32, device="cpu"), setting)
        step = module_step(module, x.clone(), setting)
        candidates.append(Candidate(name, step, gflop * problem.batch, None, problem.batch, error))
    return candidates, notes


def compare(name: str, module: nn.Module, reference: nn.Module, problem: Problem) -> float:
    """Relative error of a layer on one small map, in float32 on the CPU."""
    side = min(problem.size, 32)
    x: Tensor = torch.randn(1, side, side, problem.heads * problem.head_dim)
    if name == f"{OURS}triton":
        module, reference, x = module.cuda(), deepcopy(reference).cuda(), x.cuda()
    with torch.no_grad():
        return check(name, module.eval()(x), reference.eval()(x))
