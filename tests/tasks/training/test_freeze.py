# SPDX-License-Identifier: Apache-2.0
"""In the first epochs only what a warm start left new is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import timm
import torch
from torch import Tensor

from slideformer.errors import UserError
from slideformer.tasks.classify.module import Classifier
from slideformer.tasks.training.freeze import Freeze
from slideformer.tasks.training.optimise import Optimise
from tests.saved import save_classifier
from tests.tasks.classify.test_module import Noise, fit
from tests.tiers import fast

FAST = Optimise(lr=1e-2, warmup_epochs=0, layer_decay=0.7)


class Follow(L.Callback):
    """Keeps the model's tensors after every epoch."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []

    def keep(self, learner: Any) -> None:
        self.states.append({name: x.clone() for name, x in learner.model.state_dict().items()})

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.keep(pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.keep(pl_module)

    def changed(self, epoch: int) -> set[str]:
        """Names of the tensors that an epoch changed."""
        before, after = self.states[epoch - 1 : epoch + 1]
        return {name for name, x in after.items() if not torch.equal(x, before[name])}


@pytest.fixture
def host(tmp_path: Path) -> str:
    """A plain host of three classes, to start from."""
    torch.manual_seed(0)
    save_classifier(timm.create_model("slide_swin_nano", num_classes=3, slide_stages=()), tmp_path)
    return f"host:{tmp_path}"


@pytest.mark.parametrize("ema_decay", fast([0.5, None]))
def test_a_frozen_epoch_changes_only_what_is_new(host: str, ema_decay: float | None) -> None:
    module = Classifier("slide_swin_nano", 3, weights=host, freeze=2, optimise=FAST, ema_decay=ema_decay)
    follow = Follow()
    fit(module, Noise(), max_epochs=3, callbacks=[follow], accumulate_grad_batches=2)
    new = {name for name in follow.states[0] if name.endswith(("shift.weight", "shift.bias", "key_bias"))}
    assert len(new) == 6
    assert follow.changed(1) == follow.changed(2) == new
    assert follow.changed(3) > new
    assert "patch_embed.proj.weight" in follow.changed(3)
    assert module.notes[-1] == (
        "epochs 1 to 2 train only what is new: 6 tensors with 2934 parameters; later ones train all"
    )


def test_statistics_of_batch_normalisation_are_frozen_as_well(tmp_path: Path) -> None:
    save_classifier(timm.create_model("test_resnet", num_classes=5), tmp_path, arguments={})
    module = Classifier("test_resnet", 3, weights=str(tmp_path), freeze=1, optimise=FAST)
    follow = Follow()
    fit(module, Noise(), max_epochs=2, callbacks=[follow])
    assert follow.changed(1) == {"fc.weight", "fc.bias"}
    assert "bn1.running_mean" in follow.changed(2)


def test_more_frozen_epochs_than_there_are_is_refused(host: str) -> None:
    module = Classifier("slide_swin_nano", 3, weights=host, freeze=3)
    with pytest.raises(UserError, match=r"`freeze` must be at most the epochs of the training, got 3 of 2"):
        fit(module, Noise(), max_epochs=2)


def test_freezing_without_weights_is_refused() -> None:
    with pytest.raises(UserError, match=r"`freeze` trains first what `weights` leave new, got 1 without"):
        fit(Classifier("slide_swin_nano", 3, freeze=1), Noise())


def test_freezing_everything_is_refused(host: str) -> None:
    weights, options = host.removeprefix("host:"), {"slide_stages": []}
    module = Classifier("slide_swin_nano", 3, weights=weights, freeze=1, options=options)
    with pytest.raises(UserError, match="`freeze` must leave something to train, but `weights` have every"):
        fit(module, Noise())


def test_a_number_of_epochs_below_one_is_refused() -> None:
    with pytest.raises(UserError, match="`freeze` must be at least 1, got 0"):
        Freeze(0, ())
