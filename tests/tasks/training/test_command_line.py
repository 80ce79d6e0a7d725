# SPDX-License-Identifier: Apache-2.0
"""The task of a command line, and whose error is reported in which words."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from slideformer.errors import UserError
from slideformer.tasks.table import CLASSIFY
from slideformer.tasks.training.callbacks import Board, Metrics
from slideformer.tasks.training.command_line import Progress, expand, option_errors, task_of

RESTORING = Progress(restoring=Path("last.ckpt"))


@pytest.mark.parametrize(
    ("words", "task"),
    [
        (["--config", "{}/config.yaml"], "detect"),
        (["-c", "{}/config.yaml"], "detect"),
        (["-c={}/config.yaml"], "detect"),
        (["--resume", "{}"], "detect"),
        (["--resume={}"], "detect"),
        (["--resume"], "classify"),
        (["--resume="], "classify"),
        (["--resume", ""], "classify"),
        (["--config"], "classify"),
    ],
)
def test_the_task_is_that_of_a_file_that_is_named(
    words: list[str], task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yaml").write_text("task: detect")
    monkeypatch.chdir(tmp_path)
    assert task_of([word.format(tmp_path) for word in words]) == task


@pytest.mark.parametrize(
    ("progress", "error", "message"),
    [
        (None, KeyError("rate"), "the options must fit together, got KeyError: 'rate'"),
        (Progress(), ValueError("seven devices"), "seven devices; `slideformer train --help`"),
        (
            RESTORING,
            KeyError("loops"),
            "the run cannot continue from last.ckpt: KeyError: 'loops'; restore it",
        ),
    ],
)
def test_an_error_of_an_option_or_a_checkpoint_is_reported_in_one_line(
    progress: Progress | None, error: Exception, message: str
) -> None:
    with pytest.raises(UserError) as caught, option_errors(CLASSIFY, progress):
        raise error
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("progress", "error"),
    [
        (None, ImportError("torchvision")),
        (RESTORING, ImportError("torchvision")),
        (Progress(), KeyError("label")),
        (Progress(computing=True), ValueError("shape")),
        (Progress(Path("last.ckpt"), computing=True), ValueError("shape")),
    ],
)
def test_another_error_stays_what_it_is(progress: Progress | None, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, option_errors(CLASSIFY, progress):
        raise error
    assert caught.value is error


def test_lightnings_own_checkpoints_are_written_to_the_run(tmp_path: Path) -> None:
    loggers = [Metrics(tmp_path), Board(tmp_path, name="", version="logs")]
    trainer = L.Trainer(accelerator="cpu", logger=loggers, enable_progress_bar=False)
    callback = ModelCheckpoint()
    callback.setup(trainer, L.LightningModule(), "fit")
    assert Path(str(trainer.log_dir)) == tmp_path
    assert Path(str(callback.dirpath)) == tmp_path / "checkpoints"


def test_a_training_from_weights_names_its_recipe_unless_one_is_given(
    capsys: pytest.CaptureFixture[str],
) -> None:
    expand(CLASSIFY, ["--weights=timm"])
    line = capsys.readouterr().out
    assert line.startswith("a training from weights starts with the recipe fine_tune (")
    assert line.endswith("); --config replaces it\n")
    assert "lr 0.0003, " in line
    expand(CLASSIFY, ["--weights=timm", "--config=digits"])
    assert capsys.readouterr().out == ""
