# SPDX-License-Identifier: Apache-2.0
"""Loss, optimiser and schedule, each timm's, from plain numbers."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, cast

from timm.data import Mixup
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn
from torch.optim import Optimizer

from slideformer.errors import UserError, check_range

# Those of timm's schedules that are a function of the update alone.
SCHEDULES = ("cosine", "tanh", "poly")


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
        warmup_epochs: epochs over which the rate rises linearly; None for 5, or a fifth of a short run.
        warmup_lr: rate at the start.
        min_lr: rate at the end.
        cooldown_epochs: last epochs, spent at ``min_lr``.
    """

    name: str = "adamw"
    lr: float = 1e-3
    base_batch: int | None = None
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: str = "cosine"
    warmup_epochs: int | None = None
    warmup_lr: float = 1e-6
    min_lr: float = 1e-5
    cooldown_epochs: int = 0

    def __post_init__(self) -> None:
        """Refuse what timm would only refuse hours later, or not at all.

        Raises:
            UserError: a name is unknown or a number negative.
        """
        for option, name, known in (
            ("name", self.name, cast("list[str]", list_optimizers())),
            ("schedule", self.schedule, list(SCHEDULES)),
        ):
            if name not in known:
                near = ", ".join(difflib.get_close_matches(name, known) or known[:5])
                raise UserError(f"--model.optimise.{option} must be known to timm, got {name}; try {near}")
        for option in ("lr", "weight_decay", "warmup_epochs", "warmup_lr", "min_lr", "cooldown_epochs"):
            check_range(f"--model.optimise.{option}", getattr(self, option), 0)
        check_range("--model.optimise.base_batch", self.base_batch, 1)
        for beta in self.betas:
            check_range("--model.optimise.betas", beta, 0, 0.9999999)

    def fixed(self) -> dict[str, Any]:
        """What the state of the optimiser depends on, as plain values: a resumed run may not change it."""
        return {
            "optimiser": self.name,
            "weight_decay": self.weight_decay,
            "betas": list(self.betas),
        }

    def warmup(self, epochs: int) -> int:
        """Epochs of warm-up of a training of so many epochs."""
        return min(5, epochs // 5) if self.warmup_epochs is None else self.warmup_epochs

    def refuse_shorter(self, epochs: int) -> None:
        """Refuse a training that is all warm-up and cool-down.

        Raises:
            UserError: it is.
        """
        edges = self.warmup(epochs) + self.cooldown_epochs
        if edges >= epochs:
            raise UserError(
                f"--trainer.max_epochs must be more than the {edges} of warm-up and cool-down, got {epochs}; "
                "train longer, or lower --model.optimise.warmup_epochs"
            )

    def factor(self, batch: int) -> float:
        """What the rates are multiplied by, for this many images an update."""
        return 1.0 if self.base_batch is None else batch / self.base_batch


@dataclass(frozen=True)
class Mix:
    """Mixing of images and labels, in the words of timm's ``Mixup``.

    Attributes:
        mixup: strength of blending two images; 0 for none.
        cutmix: strength of pasting a piece of one into another; 0 for none.
        prob: probability that a batch is mixed.
        switch_prob: of a mixed batch, probability of cutmix where both are on.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    prob: float = 1.0
    switch_prob: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what mixes nothing sensible.

        Raises:
            UserError: a strength is negative or a probability none.
        """
        for option in ("mixup", "cutmix"):
            check_range(f"--model.mix.{option}", getattr(self, option), 0)
        for option in ("prob", "switch_prob"):
            check_range(f"--model.mix.{option}", getattr(self, option), 0, 1)

    def build(self, num_classes: int, smoothing: float) -> Mixup | None:
        """Timm's mixer, or None where nothing is mixed."""
        if not self.mixup and not self.cutmix:
            return None
        return Mixup(
            mixup_alpha=self.mixup,
            cutmix_alpha=self.cutmix,
            prob=self.prob,
            switch_prob=self.switch_prob,
            label_smoothing=smoothing,
            num_classes=num_classes,
        )


def build_loss(mixed: bool, smoothing: float) -> nn.Module:
    """Cross entropy with soft targets where labels are mixed, smoothed or plain otherwise."""
    if mixed:
        return SoftTargetCrossEntropy()
    return LabelSmoothingCrossEntropy(smoothing) if smoothing else nn.CrossEntropyLoss()


def build_optimiser(model: nn.Module, options: Optimise, batch: int) -> Optimizer:
    """Timm's optimiser, with no decay of biases, of 1-d parameters and of what the model exempts.

    Raises:
        UserError: the optimiser does not take these options, or needs a package or a device.
    """
    try:
        return create_optimizer_v2(
            model,
            opt=options.name,
            lr=options.lr * options.factor(batch),
            weight_decay=options.weight_decay,
            betas=options.betas,
        )
    except (TypeError, ValueError, IndexError, AssertionError, ImportError, RuntimeError) as error:
        raise UserError(
            f"the optimiser {options.name} cannot be made with betas {options.betas}: "
            f"{' '.join(str(error).split())}; choose other --model.optimise.betas or another name"
        ) from error


def build_schedule(
    optimiser: Optimizer, options: Optimise, batch: int, epochs: int, updates: int
) -> Scheduler:
    """Timm's schedule over updates, not epochs.

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
        num_epochs=epochs - options.cooldown_epochs,
        warmup_epochs=options.warmup(epochs),
        warmup_lr=options.warmup_lr * options.factor(batch),
        min_lr=options.min_lr * options.factor(batch),
        cooldown_epochs=options.cooldown_epochs,
        step_on_epochs=False,
        updates_per_epoch=max(1, updates // epochs),
    )
    return cast("Scheduler", schedule)
