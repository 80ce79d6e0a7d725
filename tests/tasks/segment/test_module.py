# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from huggingface_hub import ModelCard
from safetensors.torch import save_file

from slideformer.dense.features import Features
from slideformer.dense.segmenter import Segmenter
from slideformer.errors import UserError
from slideformer.runs import open_run
from slideformer.tasks.evaluate import evaluate
from slideformer.tasks.segment.data import SegmentationData
from slideformer.tasks.segment.evaluate import SegmentationEvaluation
from slideformer.tasks.segment.module import SegmenterLearner, count_labelled, cross_entropy
from slideformer.tasks.table import SEGMENT
from slideformer.tasks.training.batches import Batch
from slideformer.tasks.training.fit import fit

QUICK = (
    "--model=semantic_fpn",
    "--backbone=slide_swin_nano",
    "--model.head={channels: 16, head_channels: 16}",
    "--data.batch_size=3",
    "--data.num_workers=0",
    "--data.crop_size=40",
    "--data.augment.scale=[1.0, 1.0]",
    "--trainer.accelerator=cpu",
    "--trainer.num_sanity_val_steps=0",
)


def learner(**arguments: Any) -> SegmenterLearner:
    return SegmenterLearner("upernet", "slide_swin_nano", 3, head={"channels": 8}, **arguments)


def test_the_loss_is_that_of_labelled_pixels() -> None:
    logits, masks = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    masks[0, :2] = 255
    wanted = F.cross_entropy(logits.permute(0, 2, 3, 1)[masks != 255], masks[masks != 255])
    torch.testing.assert_close(cross_entropy(logits, masks, count_labelled(masks)), wanted)
    nothing = torch.full_like(masks, 255)
    assert cross_entropy(logits, nothing, count_labelled(nothing)) == 0


@pytest.mark.parametrize("weight", [0.4, 0.0])
def test_the_auxiliary_loss_has_its_weight(weight: float, monkeypatch: pytest.MonkeyPatch) -> None:
    module = learner(auxiliary_weight=weight)
    monkeypatch.setattr(module, "log", lambda *words, **options: None)
    batch = Batch(torch.rand(2, 3, 32, 32), torch.randint(0, 3, (2, 32, 32)))
    torch.manual_seed(0)
    loss = module.training_step(batch, 0)
    torch.manual_seed(0)
    logits, auxiliary = module.model.forward_train(batch.images)  # type: ignore[operator]
    wanted = F.cross_entropy(logits, batch.targets) + weight * F.cross_entropy(auxiliary, batch.targets)
    torch.testing.assert_close(loss, wanted)


def test_every_image_of_the_hold_out_counts_once_in_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    module = learner().eval()
    monkeypatch.setattr(module, "log", lambda *words, **options: None)
    images, masks = torch.rand(4, 3, 32, 32), torch.randint(0, 3, (4, 32, 32))
    with torch.no_grad():
        for index, part in enumerate((slice(0, 1), slice(1, 4))):
            module.validation_step(Batch(images[part], masks[part]), index)
        wanted = F.cross_entropy(module(images), masks)
    torch.testing.assert_close(module.val_loss.compute(), wanted)


def test_steps_lower_the_loss(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module = learner()
    monkeypatch.setattr(module, "log", lambda *words, **options: None)
    data = SegmentationData(str(labelled), batch_size=6, num_workers=0, crop_size=32)
    (batch,) = data.train_dataloader()
    optimiser = torch.optim.AdamW(module.parameters(), 3e-3)
    losses = []
    for step in range(25):
        optimiser.zero_grad()
        loss = module.training_step(batch, step)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_a_run_saves_and_is_evaluated_to_the_same_score(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    fit(SEGMENT, [*QUICK, f"--data={labelled}", f"--output={folder}", "--trainer.max_epochs=2"])
    said = capsys.readouterr().out
    assert "semantic_fpn over slide_swin_nano" in said
    run = open_run(folder)
    found = evaluate(run, labelled)
    assert isinstance(found, SegmentationEvaluation)
    assert f"best mIoU on the hold-out: {100 * found.miou:.2f} %" in said
    assert run.class_names == ("ground", "square", "bar")
    assert (run.short_side, run.crop_size) == (None, 40)
    card = ModelCard.load(folder / "README.md").data
    assert card.eval_results[0].metric_value == pytest.approx(found.miou, abs=1e-6)
    assert card.pipeline_tag == "image-segmentation"
    assert {"first_batch.png", "curves.png", "predictions.png"} <= {path.name for path in folder.iterdir()}
    with pytest.raises(UserError, match="holds a run; continue it with --resume"):
        fit(SEGMENT, [*QUICK, f"--data={labelled}", f"--output={folder}"])


def test_bad_data_stop_a_run_before_it_begins(labelled: Path, tmp_path: Path) -> None:
    (labelled / "masks" / "val" / "0.png").unlink()
    with pytest.raises(UserError, match=r"val/0.jpg must have a label map of its name"):
        fit(SEGMENT, [*QUICK, f"--data={labelled}", f"--output={tmp_path / 'run'}"])


def test_the_moving_average_begins_with_the_weights_that_were_given(tmp_path: Path) -> None:
    weights = Features("slide_swin_nano").model.state_dict()
    save_file(weights, tmp_path / "backbone.safetensors")
    module = learner(weights=str(tmp_path / "backbone.safetensors"), ema_decay=0.9)
    averaged = cast("Segmenter", module.evaluated).features.model.state_dict()
    assert module.evaluated is not module.model
    assert all(torch.equal(x, averaged[name]) for name, x in weights.items())


def test_memory_may_change_in_a_resumed_run_and_the_head_may_not() -> None:
    kept = dict(learner().hparams)
    assert dict(learner(grad_checkpointing=True, drop_path_rate=0.3).hparams) == kept
    assert dict(learner(frozen_stages=1).hparams) != kept


def test_a_zero_is_not_taken_for_unset() -> None:
    head = {"channels": 8, "dropout": 0.0, "auxiliary_channels": 0}
    module = SegmenterLearner("upernet", "slide_swin_nano", 3, head=head, drop_path_rate=0.0)
    segmenter = cast("Segmenter", module.model)
    assert segmenter.auxiliary is None
    assert segmenter.classifier[0].p == 0
    assert segmenter.features.arguments == {"drop_path_rate": 0.0}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"frozen_stages": 5}, "`frozen_stages` must be from 0 to 4, got 5"),
        ({"auxiliary_weight": -1}, "`auxiliary_weight` must be at least 0"),
        ({"drop_path_rate": 1.0}, "`drop_path_rate` must be from 0 to 0.999"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        learner(**arguments)
