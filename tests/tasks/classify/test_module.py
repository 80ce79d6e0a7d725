# SPDX-License-Identifier: Apache-2.0
"""What a step of training computes."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any, cast

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from slideformer.errors import UserError
from slideformer.tasks.classify.mix import Mix
from slideformer.tasks.classify.module import Classifier
from slideformer.tasks.classify.samples import stack
from slideformer.tasks.training.batches import Batch, collate
from slideformer.tasks.training.optimise import Optimise

FAST = Optimise(lr=1e-3, warmup_epochs=0)


class Noise(L.LightningDataModule):
    """Random images of three classes, the last batch of another size."""

    def __init__(self, images: int = 10, batch_size: int = 4) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randn(images, 3, 32, 32, generator=generator)
        self.samples: Any = [(pixels[i], i % 3) for i in range(images)]
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.samples, self.batch_size, collate_fn=partial(collate, stack=stack))

    val_dataloader = train_dataloader


def fit(module: Classifier, data: Noise, **options: Any) -> L.Trainer:
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **{"max_epochs": 1, **options},
    )
    trainer.fit(module, datamodule=data)
    return trainer


def classifier(**options: Any) -> Classifier:
    torch.manual_seed(0)
    return Classifier(
        "slide_swin_nano", num_classes=3, **{"optimise": FAST, "drop_path_rate": 0.0, **options}
    )


def batch(size: int) -> Batch:
    return Batch(torch.randn(size, 3, 32, 32), torch.arange(size) % 3, ())


def test_the_moving_average_is_the_average_of_the_weights_after_each_update() -> None:
    module = classifier(ema_decay=0.75)
    expected = {name: x.clone() for name, x in module.model.state_dict().items()}

    class Follow(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            if trainer.global_step > self.seen:
                self.seen = trainer.global_step
                # The average starts at the weights of the first update.
                decay = 0.75 if self.seen > 1 else 0.0
                for name, x in module.model.state_dict().items():
                    expected[name] = decay * expected[name] + (1 - decay) * x

        seen = 0

    fit(module, Noise(), callbacks=[Follow()], max_epochs=2, accumulate_grad_batches=2)
    assert module.ema is not None
    for name, x in module.ema.module.state_dict().items():
        torch.testing.assert_close(x, expected[name])
    assert module.evaluated is module.ema.module


def test_the_moving_average_is_what_answers() -> None:
    module = classifier(ema_decay=0.5).eval()
    images = batch(2).images
    before = module(images)
    with torch.no_grad():
        for parameter in module.model.parameters():
            parameter.add_(1.0)
    torch.testing.assert_close(module(images), before)


def test_accumulated_batches_give_the_update_of_the_large_one() -> None:
    small, large = classifier(), classifier()
    fit(small, Noise(8, 4), accumulate_grad_batches=2)
    fit(large, Noise(8, 8))
    for one, other in zip(small.parameters(), large.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-5)


def test_the_schedule_ends_with_training_when_batches_are_accumulated() -> None:
    module = classifier(optimise=Optimise(lr=1e-3, warmup_epochs=0, min_lr=1e-5))
    trainer = fit(module, Noise(8, 1), max_epochs=5, accumulate_grad_batches=4)
    assert trainer.global_step == 10
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-5)


@pytest.mark.parametrize(("size", "mixed"), [(1, 2), (4, 4), (5, 6)])
def test_images_are_mixed_in_pairs_and_none_is_left_out(size: int, mixed: int) -> None:
    module = classifier(mix=Mix(mixup=0.8, cutmix=1.0))
    seen: list[Tensor] = []
    module.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    given = batch(size)
    loss = module.training_step(given, 0)
    assert torch.isfinite(loss)
    assert len(seen[0]) == mixed
    assert size == 1 or not torch.equal(seen[0][:size], given.images)


def test_a_loss_that_is_not_finite_stops_with_step_and_rate() -> None:
    data = Noise()
    data.samples[5] = (torch.full((3, 32, 32), float("nan")), 0)
    message = r"the loss must be finite, got nan at step 1, epoch 1, learning rate \d\.\d\de-\d\d; try a"
    with pytest.raises(UserError, match=message):
        fit(classifier(), data)


def test_an_endless_training_has_no_schedule() -> None:
    with pytest.raises(UserError, match=r"a schedule needs an end, got -1 epochs; set `max_epochs`"):
        fit(classifier(), Noise(), max_epochs=-1)


def test_validation_counts_every_image_once() -> None:
    module = classifier()
    trainer = fit(module, data := Noise())
    images = torch.stack([image for image, _ in data.samples])
    targets = torch.tensor([target for _, target in data.samples])
    with torch.no_grad():
        logits = copy.deepcopy(module).eval()(images)
    figures = trainer.callback_metrics
    torch.testing.assert_close(figures["val/top1"], (logits.argmax(1) == targets).float().mean())
    torch.testing.assert_close(figures["val/loss"], torch.nn.functional.cross_entropy(logits, targets))
    assert figures["val/top5"] == 1  # of three classes


def test_an_unreadable_image_is_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    module = classifier()
    for _ in range(2):
        module.usable(batch(2)._replace(unreadable=("a.jpg",)))
    assert capsys.readouterr().out == "left out, unreadable: a.jpg\n"
    assert module.unreadable == {"a.jpg"}


def test_an_unknown_model_is_refused_with_its_nearest_name() -> None:
    with pytest.raises(UserError, match="slide_swin_tiny"):
        Classifier("slide_swim_tiny")


def test_options_reach_the_model() -> None:
    module = classifier(options={"kernel_size": 5}, grad_checkpointing=True)
    model = cast("Any", module.model)
    assert model.stages[0].blocks[0].attention.kernel_size == 5
    assert module.hparams["options"] == {"kernel_size": 5, "drop_path_rate": 0.0}
    assert all(stage.grad_checkpointing for stage in model.stages)
