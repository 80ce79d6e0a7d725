# SPDX-License-Identifier: Apache-2.0
"""Optimiser and schedule, both timm's, from plain numbers."""

from __future__ import annotations

import difflib
import inspect
from dataclasses import dataclass, replace
from math import inf
from typing import Any, cast

from timm.optim import create_optimizer_v2, get_optimizer_class, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn
from torch.optim import Optimizer

from slideformer.errors import UserError, check_range
from slideformer.tasks.training.muon import in_float32

# Those of timm's schedules that are a function of the update alone.
SCHEDULES = ("cosine", "tanh", "poly", "multistep")
# The product of the two is still a float32.
HIGHEST_RATE, HIGHEST_DECAY = 1e30, 1e6
RANGES = {
    "lr": (0, HIGHEST_RATE),
    "warmup_lr": (0, HIGHEST_RATE),
    "min_lr": (0, HIGHEST_RATE),
    "weight_decay": (0, HIGHEST_DECAY),
    "layer_decay": (1e-6, 1),
    "base_batch": (1, inf),
    "warmup_epochs": (0, inf),
    "warmup_steps": (0, inf),
    "cooldown_epochs": (0, inf),
    "decay": (0, inf),
}
# The default of `decay`; timm has one word for the two.
DECAY = {"multistep": 0.1, "poly": 1.0}


@dataclass(frozen=True)
class Optimise:
    """How weights are updated.

    Attributes:
        name: timm's name of the optimiser.
        lr: learning rate at ``base_batch`` images an update; it grows in proportion to the images, all
            devices and accumulated batches together, as do ``warmup_lr`` and ``min_lr``.
        base_batch: images an update for which the rates are given; None leaves them as they are.
        weight_decay: of parameters of two dimensions and more that the model does not exempt.
        betas: decay of the first and second moment of Adam's kind.
        schedule: timm's name of the schedule, stepped at every update.
        milestones: epochs at whose end ``multistep`` lowers the rate.
        decay: what ``multistep`` multiplies the rate by at a milestone; the exponent of ``poly``. None for
            0.1, and for 1.
        warmup_epochs: epochs over which the rate rises linearly; None for 5, or a fifth of a short run.
        warmup_steps: updates over which it does, in place of epochs.
        warmup_lr: rate at the start.
        min_lr: rate at the end.
        cooldown_epochs: last epochs, spent at ``min_lr``.
        layer_decay: what the rate of a layer is multiplied by for every layer above it, so that the first
            layers change least; None for equal rates.
    """

    name: str = "adamw"
    lr: float = 1e-3
    base_batch: int | None = None
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: str = "cosine"
    milestones: tuple[int, ...] = ()
    decay: float | None = None
    warmup_epochs: int | None = None
    warmup_steps: int | None = None
    warmup_lr: float = 1e-6
    min_lr: float = 1e-5
    cooldown_epochs: int = 0
    layer_decay: float | None = None

    def __post_init__(self) -> None:
        """Check what timm would reject only hours later, or not at all."""
        for field, name, known in (
            ("name", self.name, cast("list[str]", list_optimizers())),
            ("schedule", self.schedule, list(SCHEDULES)),
        ):
            if name not in known:
                near = ", ".join(difflib.get_close_matches(name, known) or known[:5])
                raise UserError(f"`optimise.{field}` must be known to timm, got {name}; try {near}")
        for field, (least, most) in RANGES.items():
            check_range(f"`optimise.{field}`", getattr(self, field), least, most)
        if (self.schedule == "multistep") != bool(self.milestones):
            raise UserError(
                "`optimise.milestones` must be given with the schedule multistep, and with no other, "
                f"got {list(self.milestones)} with {self.schedule}; add or remove them"
            )
        if self.warmup_epochs is not None and self.warmup_steps is not None:
            raise UserError(
                "the warm-up must be given in epochs or in steps, got both `optimise.warmup_epochs` and "
                "`optimise.warmup_steps`; leave one out"
            )
        for beta in self.betas:
            check_range("`optimise.betas`", beta, 0, 0.9999999)

    def fixed(self) -> dict[str, Any]:
        """Values that the optimiser's state depends on: a resumed run must not change them."""
        return {
            "optimiser": self.name,
            "weight_decay": self.weight_decay,
            "betas": list(self.betas),
            "layer_decay": self.layer_decay,
        }

    def warmup(self, epochs: int, updates: int) -> float:
        """Epochs of warm-up in a training of some epochs and, in all, updates."""
        if self.warmup_steps is not None:
            return self.warmup_steps / max(1, updates // epochs)
        return min(5, epochs // 5) if self.warmup_epochs is None else self.warmup_epochs

    def fitting(self, epochs: int, updates: int) -> Optimise:
        """These options, with a shorter warm-up where the run would be nothing but warm-up and cool-down.

        Args:
            epochs: epochs in all.
            updates: updates in all.

        Raises:
            UserError: the cool-down alone is as long as the run.
        """
        if self.cooldown_epochs >= epochs:
            raise UserError(
                f"`max_epochs` must be more than the {self.cooldown_epochs} of cool-down, got {epochs}; "
                "train longer, or lower `optimise.cooldown_epochs`"
            )
        if self.warmup(epochs, updates) + self.cooldown_epochs < epochs:
            return self
        most = updates * (epochs - self.cooldown_epochs) // epochs
        return replace(self, warmup_epochs=None, warmup_steps=most // 5)

    def factor(self, batch: int) -> float:
        """Factor of the rates, for a number of images an update."""
        return 1.0 if self.base_batch is None else batch / self.base_batch


def build_optimiser(
    model: nn.Module, options: Optimise, batch: int, *, cpu: bool = False, fused: bool = False
) -> Optimizer:
    """Build timm's optimiser, without decay of biases, 1-d parameters and what the model exempts.

    Args:
        model: whose parameters are updated.
        options: name, rates and decay.
        batch: images an update.
        cpu: whether it runs on a CPU.
        fused: whether one kernel may update all parameters, where the optimiser has one.
    """
    try:
        kernel: dict[str, Any] = {"fused": True} if fused and has_fused_kernel(options.name) else {}
        optimiser = create_optimizer_v2(
            model,
            opt=options.name,
            lr=options.lr * options.factor(batch),
            weight_decay=options.weight_decay,
            betas=options.betas,
            layer_decay=options.layer_decay,
            **kernel,
        )
        return in_float32(optimiser) if cpu else optimiser
    except (TypeError, ValueError, IndexError, AssertionError, ImportError, RuntimeError) as error:
        raise UserError(
            f"the optimiser {options.name} cannot be made with betas {options.betas}: "
            f"{' '.join(str(error).split())}; choose other `optimise.betas` or another name"
        ) from error


def has_fused_kernel(name: str) -> bool:
    """Whether PyTorch updates all parameters of an optimiser, by timm's name, in one kernel."""
    return "fused" in inspect.signature(get_optimizer_class(name, bind_defaults=False)).parameters


def check_rates(optimiser: Optimizer) -> None:
    """Check that float32 can compute with the rates, which schedule and number of images may raise."""
    for group in optimiser.param_groups:
        check_range("the learning rate by `optimise` and the images an update", group["lr"], 0, HIGHEST_RATE)


def build_schedule(
    optimiser: Optimizer, options: Optimise, batch: int, epochs: int, updates: int
) -> Scheduler:
    """Build timm's schedule, over updates, not epochs.

    Args:
        optimiser: whose rates are set.
        options: rates and lengths.
        batch: images an update.
        epochs: epochs in all.
        updates: updates in all.
    """
    schedule, _ = create_scheduler_v2(
        optimiser,
        sched=options.schedule,
        decay_milestones=list(options.milestones),
        decay_rate=DECAY.get(options.schedule, 0.0) if options.decay is None else options.decay,
        num_epochs=epochs - options.cooldown_epochs,
        warmup_epochs=cast("Any", options.warmup(epochs, updates)),
        warmup_lr=options.warmup_lr * options.factor(batch),
        min_lr=options.min_lr * options.factor(batch),
        cooldown_epochs=options.cooldown_epochs,
        step_on_epochs=False,
        updates_per_epoch=max(1, updates // epochs),
    )
    return cast("Scheduler", schedule)
