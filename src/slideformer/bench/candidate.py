# SPDX-License-Identifier: Apache-2.0
"""Candidates for a measurement: a step that can be repeated, and its known costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from slideformer.errors import UserError

Work = Literal["forward", "backward", "step"]
Step = Callable[[], Sequence[Tensor]]
Progress = Callable[[str], None]
# Largest relative difference that another order of a sum, or half precision, may make.
TOLERANCES = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in TOLERANCES}


@dataclass(frozen=True)
class Setting:
    """Where and how everything is measured.

    Attributes:
        work: ``"forward"``; ``"backward"``, forward and the gradients of inputs and parameters; ``"step"``, a
            training step with AdamW, of layers and models.
        device: PyTorch's name of it.
        dtype: of the maps; modules in half precision train by autocast.
        compiled: whether modules run under ``torch.compile``.
        rounds: how often each candidate is visited.
        only: parts of the names of candidates to keep; all without any.
        memory: bytes that a candidate may lay out.
        progress: called with a few words on what is being done.
    """

    work: Work = "forward"
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    compiled: bool = False
    rounds: int = 10
    only: Sequence[str] = ()
    memory: float = float("inf")
    progress: Progress = lambda words: None

    def keeps(self, name: str) -> bool:
        """Whether a candidate of this name is measured."""
        return not self.only or any(word in name for word in self.only)

    def autocast(self) -> torch.autocast:
        """The context of half precision, where the setting asks for it."""
        device = torch.device(self.device).type
        return torch.autocast(device, self.dtype, enabled=self.dtype != torch.float32)


@dataclass(frozen=True)
class Candidate:
    """One of several ways to do the same work.

    Attributes:
        name: as the tables show it.
        step: does the work once and returns the results, which do not count as extra memory.
        gflop: useful floating-point operations of a step, in 10^9.
        megabytes: that every way has to read or write at least, in 10^6; None where it is unknown.
        images: images, or maps, in a step.
        error: difference from the reference relative to its largest number; None without a reference.
        load: brings what the step needs into memory and does the work once: its memory is measured instead
            of the step's.
    """

    name: str
    step: Step
    gflop: float
    megabytes: float | None
    images: int
    error: float | None
    load: Step | None = None


def check(name: str, output: Tensor, wanted: Tensor) -> float:
    """Return the relative error of a candidate's output."""
    limit = TOLERANCES[output.dtype]
    error = float((output.double() - wanted.double()).abs().max() / wanted.double().abs().max())
    if not error <= limit:
        raise UserError(f"{name} must agree with the reference to {limit:.0e}, got {error:.1e}")
    return error


def module_step(module: nn.Module, inputs: Tensor, setting: Setting) -> Step:
    """A module's forward pass, its forward and backward pass, or a complete training step."""
    module = module.to(setting.device).train(setting.work != "forward")
    if setting.dtype != torch.float32 and setting.work == "forward":
        module = module.to(setting.dtype)
    run = torch.compile(module) if setting.compiled else module

    def forward() -> Sequence[Tensor]:
        with torch.no_grad():
            return (run(inputs),)

    return forward if setting.work == "forward" else training_step(module, run, inputs.float(), setting)


def training_step(
    module: nn.Module, run: Callable[[Tensor], Tensor], inputs: Tensor, setting: Setting
) -> Step:
    """Gradients of inputs and parameters, or with AdamW new parameters."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, fused=True) if setting.work == "step" else None
    # A training step has no use for the gradient of its images.
    wanted = parameters if optimiser else [inputs.requires_grad_(), *parameters]

    def train() -> Sequence[Tensor]:
        with setting.autocast():
            loss = run(inputs).float().square().mean()
        gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
        if optimiser is None:
            return [x for x in gradients if x is not None]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimiser.step()
        optimiser.zero_grad()
        return ()

    return train


def count_gflop(module: nn.Module, inputs: Tensor, setting: Setting) -> float:
    """Floating-point operations of a module's products, in 10^9; three times as many where it trains."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(inputs)
    return counter.get_total_flops() * (1 if setting.work == "forward" else 3) / 1e9
