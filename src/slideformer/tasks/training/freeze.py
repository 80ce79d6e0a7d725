# SPDX-License-Identifier: Apache-2.0
"""First epochs in which only what a warm start left new is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from slideformer.errors import UserError, check_range


class Freeze(Callback):
    """Trains only some parameters of a `Learner`'s model in the first epochs, then all of them.

    The gradients of the others are computed and dropped: the optimiser skips a parameter without one, which
    then neither moves nor decays nor gathers moments. This holds for any optimiser, groups and devices; and
    little could be saved, since what is new slides in the first stages, below everything else. Statistics of
    batch normalisation do not move either. A checkpoint has the names, which a resumed run cannot find out.

    Args:
        epochs: how many.
        trained: names of the parameters that are trained in them; None of a run that is to be resumed, or
            that starts from nothing.
    """

    def __init__(self, epochs: int, trained: Iterable[str] | None) -> None:
        check_range("`freeze`", epochs, 1)
        self.epochs, self.trained = epochs, None if trained is None else frozenset(trained)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check that there is something to train and an end of it, and say it.

        Raises:
            UserError: there is not.
        """
        if self.trained is None:
            raise UserError(
                f"`freeze` trains first what `weights` leave new, got {self.epochs} without weights; give "
                "them from the beginning, or leave `freeze` out"
            )
        if self.epochs > (trainer.max_epochs or 0):
            raise UserError(
                f"`freeze` must be at most the epochs of the training, got {self.epochs} of "
                f"{trainer.max_epochs}; choose fewer, or raise `max_epochs`"
            )
        chosen = [x for name, x in self.parameters(pl_module) if name in self.trained]
        if not chosen:
            raise UserError(
                "`freeze` must leave something to train, but `weights` have every parameter of the model; "
                "leave `freeze` out"
            )
        count = sum(x.numel() for x in chosen)
        until = "epoch 1 trains" if self.epochs == 1 else f"epochs 1 to {self.epochs} train"
        cast("Any", pl_module).notes.append(
            f"{until} only what is new: {len(chosen)} tensors with {count} parameters; later ones train all"
        )

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Hold the statistics of batch normalisation, or let them go."""
        assert self.trained is not None
        frozen = trainer.current_epoch < self.epochs
        for name, layer in self.model(pl_module).named_modules():
            if isinstance(layer, _BatchNorm) and f"{name}.weight" not in self.trained:
                layer.train(not frozen)

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Drop the gradients of what is frozen."""
        assert self.trained is not None
        if trainer.current_epoch < self.epochs:
            for name, x in self.parameters(pl_module):
                if name not in self.trained:
                    x.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Names of the parameters that are trained first."""
        return {"trained": sorted(self.trained or ())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the names of the run to resume."""
        self.trained = frozenset(map(str, state_dict["trained"]))

    @staticmethod
    def model(learner: L.LightningModule) -> nn.Module:
        """The model that is trained, without its moving average."""
        return cast("nn.Module", learner.model)

    def parameters(self, learner: L.LightningModule) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters of the model."""
        return self.model(learner).named_parameters()
