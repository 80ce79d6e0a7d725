# SPDX-License-Identifier: Apache-2.0
"""A run from its first epoch to its weights, through whatever befalls it on the way."""

from __future__ import annotations

import csv
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from slideformer.errors import UserError
from slideformer.tasks.classify.module import Classifier
from slideformer.tasks.table import CLASSIFY
from slideformer.tasks.training.fit import fit
from slideformer.tasks.training.run_folder import RunFolder
from tests.conftest import CLASSES, QUICK, command, finish, train
from tests.shared import made_once
from tests.tiers import fast

STEPS = 3  # an epoch: 24 images in batches of 8
EPOCHS = 3


def weights(folder: Path) -> dict[str, Tensor]:
    """The model and its optimiser's rate after the last epoch."""
    state = torch.load(RunFolder(folder).last, weights_only=True)
    assert state["global_step"] == STEPS * EPOCHS
    return state["state_dict"]


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, x in one.items():
        assert torch.equal(x, other[name]), name


def losses(folder: Path) -> list[tuple[int, float]]:
    """Update and loss of every logged training step."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    return [(int(row["step"]), float(row["train/loss"])) for row in rows]


class BrokenError(Exception):
    """What befalls a run in a test."""


@pytest.fixture
def breaks_at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a training end at one update with an exception."""
    step = Classifier.training_step

    def arm(update: int, what: BaseException) -> None:
        def breaking(self: Classifier, batch: Any, index: int) -> Tensor:
            if self.global_step == update:
                monkeypatch.setattr(Classifier, "training_step", step)
                raise what
            return step(self, batch, index)

        monkeypatch.setattr(Classifier, "training_step", breaking)

    return arm


def test_a_finished_run_loads_by_timm(finished_run: Path) -> None:
    model = timm.create_model(f"local-dir:{finished_run}", pretrained=True)
    assert model.num_classes == len(CLASSES)
    assert model.pretrained_cfg["label_names"] == sorted(CLASSES)
    for name, x in load_file(finished_run / "model.safetensors").items():
        assert torch.equal(model.state_dict()[name], x)


def test_a_finished_run_has_learnt_and_says_so(finished_run: Path) -> None:
    with (finished_run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    top1 = [float(row["val/top1"]) for row in rows if row["val/top1"]]
    assert len(top1) == EPOCHS
    assert max(top1) == 1.0  # three colours
    assert list((finished_run / "logs").glob("events.out.tfevents.*"))


def test_the_resolved_configuration_repeats_the_run(finished_run: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((finished_run / "config.yaml").read_text())
    assert config["model"]["optimise"]["weight_decay"] == 0.05  # a default, written out
    again = fit(CLASSIFY, [f"--config={finished_run / 'config.yaml'}", f"--output={tmp_path / 'again'}"]).path
    assert_same(weights(again), weights(finished_run))


def test_the_best_epoch_is_kept_not_the_last(
    all_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validate = Classifier.validation_step

    def good_once(self: Classifier, batch: Any, index: int) -> None:
        validate(
            self,
            batch._replace(targets=batch.targets if self.current_epoch == 1 else 1 - 0 * batch.targets),
            index,
        )

    monkeypatch.setattr(Classifier, "validation_step", good_once)
    folder = RunFolder(train(all_photos, tmp_path / "run"))
    best = torch.load(folder.best, weights_only=True)
    assert best["epoch"] == 1
    saved = load_file(folder.path / "model.safetensors")
    assert_same(saved, {name.removeprefix("model."): x for name, x in best["state_dict"].items()})


TRAININGS = {
    "plain": (),
    "ema": ("--model.ema_decay=0.9", "--model.mix.mixup=0.4"),
    "accumulated": ("--model.ema_decay=0.9", "--trainer.accumulate_grad_batches=2", "--data.batch_size=4"),
    "workers": ("--data.num_workers=2", "--data.augment.repeats=2"),
}


# Where a run breaks, and what is trained, have nothing to do with each other: not every pair is tried.
BROKEN = (
    ("plain", 1),
    ("plain", STEPS + 1),
    ("plain", 2 * STEPS),
    ("ema", STEPS + 1),
    ("accumulated", STEPS + 1),
    ("workers", STEPS + 1),
    ("workers", 2 * STEPS),
)


@pytest.mark.parametrize("broken_at", fast(BROKEN), ids=lambda row: f"{row[0]}-{row[1]}")
def test_a_broken_run_goes_on_as_if_nothing_had_happened(
    all_photos: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    breaks_at: Any,
    broken_at: tuple[str, int],
) -> None:
    kind, update = broken_at
    words = ("--trainer.log_every_n_steps=1", *TRAININGS[kind])
    complete = made_once(tmp_path_factory, f"trained-{kind}", lambda f: train(all_photos, f / "run", *words))
    whole = complete / "run"
    breaks_at(update, BrokenError())
    broken = tmp_path / "broken"
    with pytest.raises(BrokenError):
        train(all_photos, broken, *words)
    fit(CLASSIFY, ["--resume", str(broken)])
    assert_same(weights(broken), weights(whole))
    assert losses(broken) == losses(whole)
    assert [step for step, _ in losses(broken)] == list(range(STEPS * EPOCHS))


def test_a_longer_resumed_run_has_the_rates_of_its_new_length(finished_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    with (run / "metrics.csv").open("a") as file:
        file.write("torn,")  # by a kill
    fit(CLASSIFY, [f"--resume={run}", "--trainer.max_epochs=6", "--trainer.log_every_n_steps=1"])
    with (run / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["lr-AdamW/pg1"]]
    rates = [float(row["lr-AdamW/pg1"]) for row in rows]
    assert max(rates[-3 * STEPS :]) > 0.3 * max(rates), "half of a cosine of six epochs, not its end"
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert (saved["trainer"]["max_epochs"], saved["resume"]) == (6, False)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    all_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, before = Path.write_bytes, {}

    def fails_late(path: Path, data: bytes) -> int:
        last = RunFolder(tmp_path / "run").last
        if ".last" in path.parent.name and last.exists():
            before["last"] = last.read_bytes()
            write(path, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", fails_late)
    with pytest.raises(UserError, match=r"last.ckpt must be writable, but No space left on device"):
        train(all_photos, tmp_path / "run")
    last = RunFolder(tmp_path / "run").last
    assert last.read_bytes() == before["last"]
    assert {path.name for path in last.parent.iterdir()} == {"best.ckpt", "last.ckpt"}


def test_ctrl_c_tells_how_to_go_on(all_photos: Path, tmp_path: Path, breaks_at: Any) -> None:
    breaks_at(STEPS, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt, match=f"go on with: slideformer train --resume {tmp_path / 'run'}"):
        train(all_photos, tmp_path / "run")
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_a_killed_process_loses_no_more_than_its_epoch(
    all_photos: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    run = tmp_path / "run"
    long = [word for word in QUICK if "max_epochs" not in word]
    process = command("train", *long, "--data", all_photos, "--output", run, "--trainer.max_epochs=500")
    folder = RunFolder(run)
    deadline = time.monotonic() + 300
    while not folder.last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = finish(process)
    assert process.returncode == code, err
    assert "Traceback" not in err
    if code == 130:
        assert err.splitlines()[-1] == f"interrupted; go on with: slideformer train --resume {run}"
    done = torch.load(folder.last, weights_only=True)["epoch"] + 1
    config = yaml.safe_load(folder.config.read_text())
    config["trainer"]["max_epochs"] = done + 1
    folder.config.write_text(yaml.safe_dump(config))
    fit(CLASSIFY, ["--resume", str(run)])
    assert torch.load(folder.last, weights_only=True)["epoch"] == done
    assert {"model.safetensors", "config.json"} <= {path.name for path in run.iterdir()}


def test_a_run_is_not_trained_over(finished_run: Path, all_photos: Path) -> None:
    before = (finished_run / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match="already holds a run; continue it with --resume"):
        train(all_photos, finished_run)
    assert (finished_run / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("name", ["config.yaml", "README.md"])
def test_files_of_something_else_are_not_overwritten(name: str, all_photos: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine: 1\n")
    with pytest.raises(
        UserError, match=f"must be a new folder, or that of a run, got one with another {name}"
    ):
        train(all_photos, tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "mine: 1\n"}


@pytest.mark.slow
def test_two_processes_give_what_one_gives(all_photos: Path, tmp_path: Path) -> None:
    steady = ("--model.drop_path_rate=0", "--data.augment.hflip=0", "--data.augment.color_jitter=0")
    steady += ("--data.augment.scale=[1, 1]", "--data.augment.ratio=[1.2, 1.2]", "--model.ema_decay=0.9")
    one = train(all_photos, tmp_path / "one", *steady, "--data.batch_size=12")
    two = tmp_path / "two"
    words = [*QUICK, *steady, "--data", all_photos, "--output", two, "--data.batch_size=6"]
    process = command(
        "train", *words, "--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.log_every_n_steps=1"
    )
    out, err = finish(process)
    assert process.returncode == 0, err
    assert out.count("best top-1 on the hold-out") == 1
    states = [torch.load(RunFolder(folder).last, weights_only=True) for folder in (one, two)]
    assert states[0]["global_step"] == states[1]["global_step"] == 2 * EPOCHS
    for name, x in states[0]["state_dict"].items():
        torch.testing.assert_close(states[1]["state_dict"][name], x, rtol=1e-3, atol=1e-4)
    figures = []
    for folder in (one, two):
        with (folder / "metrics.csv").open(newline="") as file:
            figures.append([float(row["val/loss"]) for row in csv.DictReader(file) if row["val/loss"]])
    # Nine images to hold out, shared out five to four, none of them twice.
    assert figures[0] == pytest.approx(figures[1], rel=1e-3)
