# SPDX-License-Identifier: Apache-2.0
"""Every mistake that a training can begin with is one line, and leaves nothing behind."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from slideformer.cli.main import main
from slideformer.tasks.classify.module import Classifier
from slideformer.tasks.training.run_folder import RunFolder
from tests.conftest import QUICK

# A process that holds a lock.
HOLD = (
    "import fcntl, sys; file = open(sys.argv[1], 'a+'); fcntl.lockf(file, fcntl.LOCK_EX); "
    "print('held', flush=True); sys.stdin.read()"
)


def mistake(words: list[object], capsys: pytest.CaptureFixture[str]) -> str:
    """The line that a command line is answered with."""
    assert main(["train", *map(str, words)]) == 2
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: --data;"),
        (["--data=nowhere"], "--data must be a folder, got nowhere, which does not exist; check the path"),
        (["--data=digits", "--model=slide_swin_tinny"], "slide_swin_tiny"),
        (["--data=digits", "--config=nope"], "--config must be a YAML file or one of digits, imagenet_slide"),
        (["--data=digits", "--config"], "--config must be a YAML file or one of digits"),
        (["--data=digits", "--model.optimise.rate=1"], "rate"),
        (["--data=digits", "--trainer.max_epochs=many"], "max_epochs"),
        (["--data=digits", "--data.batch_size=0"], "--data.batch_size must be at least 1, got 0"),
        (
            ["--data=digits", "--model.optimise.lr=-1"],
            "--model.optimise.lr must be from 0 to 1e+30, got -1.0",
        ),
        (["--data=digits", "--model.optimise.name=adamwx"], "adamwx"),
        (["--data=digits", "--model.smoothing=2"], "--model.smoothing must be from 0 to 0.999, got 2.0"),
        (["--data=digits", "--model.smoothing=1"], "--model.smoothing must be from 0 to 0.999, got 1.0"),
        (
            ["--data=digits", "--model.optimise.lr=1e99"],
            "--model.optimise.lr must be from 0 to 1e+30, got 1e+99",
        ),
        (
            ["--data=digits", "--model.optimise.lr=.nan"],
            "--model.optimise.lr must be from 0 to 1e+30, got nan",
        ),
        (
            [
                "--data=digits",
                "--model.optimise.base_batch=1",
                "--model.optimise.lr=1e30",
                "--model.optimise.warmup_epochs=0",
            ],
            "the learning rate by",
        ),
        (
            ["--data=digits", "--model.mix.mixup=.inf"],
            "--model.mix.mixup must be finite and at least 0, got inf",
        ),
        (["--data=digits", "--data.augment.erase_mode=evil"], "erase_mode"),
        (["--data=digits", "--data.augment.auto_augment=rand-mx"], "must have a number in each part"),
        (["--data=digits", "--data.augment.auto_augment=rand-q9"], "Unknown RandAugment config section"),
        (
            ["--data=digits", "--data.batch_size=100000000000000000000"],
            "a batch must have at most 1073741824",
        ),
        (
            ["--data=digits", "--data.image_size=100000000000000000000"],
            "--data.image_size must be from 1 to 4096, got 100000000000000000000",
        ),
        (["--data=digits", "--data.num_workers=1000000000"], "--data.num_workers must be from 0 to 1024"),
        (
            ["--data=digits", "--trainer.check_val_every_n_epoch=0"],
            "check_val_every_n_epoch must be at least 1",
        ),
        (["--data=digits", "--trainer.val_check_interval=0"], "--trainer.val_check_interval must be above 0"),
        (
            ["--data=digits", "--trainer.val_check_interval=9999"],
            "must be less than or equal to the number of",
        ),
        (["--data=digits", "--trainer.devices=-5"], "`devices` selected with `CPUAccelerator` should be"),
        (["--data=digits", "--trainer.limit_train_batches=0"], "a run must have images to train on"),
        (["--data=digits", f"--model.options={'[' * 5000}"], "30 levels, got more"),
        (["--data=digits", "--model.ema_decay=1.5"], "--model.ema_decay must be from 0 to 1, got 1.5"),
        (["--data=digits", "--model.options={kernel_size: 4}"], "kernel_size must be odd, got 4; use 5"),
        (["--data=digits", "--model.options={kernal: 3}"], "kernal"),
        (["--data=digits", "--data.augment.auto_augment=nonsense"], "nonsense"),
        (["--data=digits", "--trainer.max_epochs=0"], "--trainer.max_epochs must be from 1 to 1e+06, got 0"),
        (
            ["--data=digits", "--trainer.max_epochs=-1"],
            "--trainer.max_epochs must be from 1 to 1e+06, got -1",
        ),
        (["--data=digits", "--trainer.max_epochs=null"], "the length of a run must be given in epochs"),
        (["--data=digits", "--trainer.max_steps=5"], "the length of a run must be given in epochs"),
        (["--data=digits", "--trainer.fast_dev_run=true"], "a run must see its hold-out"),
        (["--data=digits", "--trainer.accumulate_grad_batches=0"], "must be from 1 to 1e+06, got 0"),
        (["--data=digits", "--trainer.gradient_clip_val=-1"], "gradient_clip_val must be at least 0, got -1"),
        (["--data=digits", "--trainer.strategy=quantum"], "quantum"),
        (["--data=digits", "--trainer.accelerator=abacus"], "abacus"),
        (["--data=digits", "--seed_everything=-1"], "-1 is not in bounds, numpy accepts from 0 to"),
        (
            ["--data=digits", "--model.optimise.warmup_epochs=3"],
            "must be more than the 3 of warm-up and cool",
        ),
        (["--data=digits", "--model.optimise.cooldown_epochs=9"], "must be more than the 10 of warm-up"),
        (["--data=digits", "--model.optimise.betas=[0.9, 1.5]"], "betas must be from 0 to 1, got 1.5"),
        (["--data=digits", "--model.optimise.name=adan"], "the optimiser adan cannot be made with betas"),
        (["--data=digits", "--model.mix.mixup=-1"], "--model.mix.mixup must be at least 0, got -1"),
        (["--data=digits", "--model.mix.prob=2"], "--model.mix.prob must be from 0 to 1, got 2"),
        (["--data=digits", "--data.augment.hflip=7"], "--data.augment.hflip must be from 0 to 1, got 7"),
        (["--data=digits", "--data.augment.scale=[1, 0.5]"], "scale must rise from above 0, at most 1, got"),
        (["--data=digits", "--data.num_classes=7"], "the classes of digits are its own"),
        (["--data=digits", "--trainer.precision=7"], "precision"),
        (
            ["--data=digits", "--trainer.precision=transformer-engine"],
            "this needs a package that is not installed: Requirement 'transformer_engine",
        ),
        (["--data=digits", "--trainer.accelerator=gpu"], "gpu"),
        (["--data=digits", "--trainer.gradient_clip_val=-1", "--trainer.gradient_clip_algorithm=x"], "clip"),
        (["--resume", "nowhere"], "--resume needs a run, got nowhere, which holds none; check the folder"),
    ],
    ids=lambda x: " ".join(x)[:60] if isinstance(x, list) else "",
)
def test_a_mistake_in_the_words(
    words: list[object],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    given = words if "--resume" in words else [*QUICK, f"--output={tmp_path / 'deep' / 'run'}", *words]
    assert message in mistake(list(given), capsys)
    assert list(tmp_path.iterdir()) == [], "neither the folder nor the one above it is left"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: --data; `slideformer train --help` lists the options"),
        (["classify"], "the following arguments are required: --data;"),
        (["detect"], "the following arguments are required: --data; `slideformer train detect --help`"),
        (["segment"], "the following arguments are required: --data; `slideformer train segment --help`"),
        (["segment", "--data"], "expected one argument"),
        (["--model"], "expected one argument"),
        (["--config"], "--config must be a YAML file or one of digits"),
        (["-c"], "--config must be a YAML file or one of digits"),
        (["--resume"], "the following arguments are required: --data;"),
        (["--resume", ""], "--resume needs a run, got ., which holds none"),
        (["--resume="], "--resume needs a run, got ., which holds none"),
        (["", ""], "the task must be one of classify, detect, segment, got"),
        (["digits"], "the task must be one of classify, detect, segment, got digits"),
        (["classify", "digits"], "unrecognized arguments: digits"),
        (["--"], "unrecognized arguments: --;"),
    ],
    ids=lambda x: " ".join(x)[:60] if isinstance(x, list) else "",
)
def test_a_command_that_is_not_finished(
    words: list[object],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in mistake(words, capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_training_into_a_folder_in_use_is_refused_with_its_process(
    finished_run: Path, all_photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    before = (run / "metrics.csv").read_text()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, run / ".lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    (run / ".lock").write_text("process 4711 on elsewhere")
    for words in (
        ["--resume", run, "--trainer.max_epochs=9"],
        [*QUICK, f"--data={all_photos}", f"--output={run}"],
    ):
        assert f"{run} is in use by process 4711 on elsewhere; let it finish" in mistake(words, capsys)
    process.kill()
    process.communicate(timeout=60)
    assert (run / "metrics.csv").read_text() == before
    assert main(["train", "--resume", str(run)]) == 0
    assert not (run / ".lock").exists()


def test_an_output_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").write_text("thesis")
    line = mistake([*QUICK, "--data=digits", f"--output={tmp_path / 'run'}"], capsys)
    assert f"the output folder must be writable, got {tmp_path / 'run'} (File exists)" in line
    assert (tmp_path / "run").read_text() == "thesis"


def test_an_output_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    line = mistake([*QUICK, "--data=digits", "--output=/proc/slideformer"], capsys)
    assert "the output folder must be writable, got /proc/slideformer" in line


def test_bad_images_are_told_and_counted(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = photos / "train" / "lemon" / "0.jpg"
    bad.write_text("no picture")
    words = [*QUICK, f"--data={photos}", f"--output={tmp_path / 'run'}"]
    assert main(["train", *words]) == 0
    out = capsys.readouterr().out
    assert out.count(f"left out, unreadable: {bad}") == 1
    assert "images left out because they were unreadable: 1" in out
    line = mistake([*words[:-1], f"--output={tmp_path / 'other'}", "--data.on_bad_image=stop"], capsys)
    assert f"an image must be complete and readable, got {bad}" in line


def test_a_bad_image_met_by_a_worker_stops_with_its_path(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = photos / "train" / "lemon" / "0.jpg"
    bad.write_text("no picture")
    words = [*QUICK, f"--data={photos}", f"--output={tmp_path / 'run'}", "--data.num_workers=2"]
    line = mistake([*words, "--data.on_bad_image=stop"], capsys)
    assert f"an image must be complete and readable, got {bad}" in line


def test_a_loss_that_is_not_finite_stops(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*QUICK, f"--data={photos}", f"--output={tmp_path / 'run'}"]
    line = mistake([*words, "--model.optimise.lr=1e30", "--model.optimise.warmup_epochs=0"], capsys)
    assert "the loss must be finite, got nan at step " in line
    assert "learning rate 9.70e+29; try a lower --model.optimise.lr" in line


def test_weights_that_answer_nothing_are_not_kept(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(tmp_path / "run")
    words = [*QUICK, f"--data={photos}", f"--output={run.path}", "--trainer.limit_train_batches=1"]
    line = mistake([*words, "--model.optimise.lr=1e30", "--model.optimise.warmup_epochs=0"], capsys)
    assert "the loss on the hold-out must be finite, got nan at step 1, epoch 1, learning rate" in line
    assert not run.best.exists()
    assert not run.weights.exists()


class RunsCode:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.write_text, (self.target, "code was run")


def not_a_checkpoint(path: Path) -> None:
    path.write_text("no checkpoint")


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without(key: str) -> Callable[[Path], None]:
    """A spoiler that takes a part of a checkpoint away."""

    def spoil(path: Path) -> None:
        state = torch.load(path, weights_only=True)
        del state[key]
        torch.save(state, path)

    spoil.__name__ = f"without_{key}"
    return spoil


def with_other(key: str, value: object) -> Callable[[Path], None]:
    """A spoiler that replaces a part of a checkpoint."""

    def spoil(path: Path) -> None:
        torch.save({**torch.load(path, weights_only=True), key: value}, path)

    spoil.__name__ = f"with_other_{key}"
    return spoil


def with_moments_that_are_text(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    state["optimizer_states"][0]["state"][0]["exp_avg"] = "text"
    torch.save(state, path)


def with_a_rate_that_is_text(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    state["optimizer_states"][0]["param_groups"][0]["weight_decay"] = "text"
    torch.save(state, path)


def without_a_tensor(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    del state["state_dict"]["model.head.fc.weight"]
    torch.save(state, path)


KEYS = (
    "state_dict", "hyper_parameters", "epoch", "global_step", "loops", "callbacks", "optimizer_states",
    "images_per_update", "pytorch-lightning_version", "lr_schedulers",
)  # fmt: skip


@pytest.mark.parametrize(
    "spoil",
    [
        *(without(key) for key in KEYS),
        *(
            with_other(key, None)
            for key in ("state_dict", "epoch", "global_step", "loops", "optimizer_states")
        ),
        with_other("loops", {"fit_loop": {}}),
        with_other("optimizer_states", []),
        with_other("optimizer_states", [{}]),
        with_moments_that_are_text,
        with_a_rate_that_is_text,
        without_a_tensor,
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_a_checkpoint_without_a_part_is_one_line(
    spoil: Callable[[Path], None], finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(Path(shutil.copytree(finished_run, tmp_path / "run")))
    spoil(run.last)
    code = main(["train", "--resume", str(run.path), "--trainer.max_epochs=4"])
    err = capsys.readouterr().err
    assert (code, err.count("error: "), len(err.splitlines())) == (2, 1, 1), err
    assert "checkpoint" in err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"task: \xff", "config.yaml must be text in UTF-8, got other bytes; save it as UTF-8"),
        (b"[" * 5000, "30 levels, got more"),
        (b"a: &a [*a]", "must not refer to itself"),
        (None, "config.yaml must be a regular file, got a FIFO"),
    ],
)
@pytest.mark.parametrize("option", ["--resume={}", "--config={}/config.yaml"])
def test_a_configuration_that_cannot_be_read_is_one_line(
    option: str, content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    if content is None:
        os.mkfifo(file)
    else:
        file.write_bytes(content)
    for words in ([], ["classify"]):
        line = mistake([*words, option.format(tmp_path)], capsys)
        assert message in line or "--config must be a YAML file" in line
        assert str(file) in line


@pytest.mark.parametrize("name", ["logs", "checkpoints", "metrics.csv"])
def test_what_is_removed_from_a_run_in_training_is_made_again(
    name: str, all_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    step = Classifier.training_step

    def removing(self: Classifier, batch: Any, index: int) -> Tensor:
        if self.global_step == 4:
            shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()
        return step(self, batch, index)

    monkeypatch.setattr(Classifier, "training_step", removing)
    words = [*QUICK, f"--data={all_photos}", f"--output={run}", "--model.optimise.lr=1e-4"]
    assert main(["train", *words, "--trainer.log_every_n_steps=1"]) == 0
    assert (run / name).exists()
    assert (run / "model.safetensors").exists()


def other_content(path: Path) -> None:
    torch.save({"epoch": 3}, path)


def with_code(path: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": RunsCode(path.parent / "ran"), "hyper_parameters": {}}))


def with_code_in_torch(path: Path) -> None:
    torch.save({"state_dict": RunsCode(path.parent / "ran"), "hyper_parameters": {}}, path)


@pytest.mark.parametrize(
    "spoil", [not_a_checkpoint, cut_in_half, other_content, with_code, with_code_in_torch]
)
def test_a_file_that_is_no_checkpoint(
    spoil: Callable[[Path], None], finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(Path(shutil.copytree(finished_run, tmp_path / "run")))
    spoil(run.last)
    line = mistake(["--resume", run.path], capsys)
    assert f"{run.last} must be a checkpoint of this program" in line
    assert not (run.last.parent / "ran").exists()


def test_a_checkpoint_of_another_model(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    line = mistake(["--resume", run, "--model=slide_swin_tiny"], capsys)
    assert (
        "must be a checkpoint of this model and optimiser, got name 'slide_swin_nano' instead of "
        "'slide_swin_tiny'" in line
    )


def test_a_run_of_an_earlier_version_goes_on_with_its_best_score(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(Path(shutil.copytree(finished_run, tmp_path / "run")))
    score = torch.tensor(2.0)  # above all that comes
    for path in (run.best, run.last):
        state = torch.load(path, weights_only=True)
        del state["best_score"]
        state["callbacks"] = {"Checkpoint": {"monitor": "val/top1", "best_model_score": score}}
        torch.save(state if path == run.last else {**state, "callbacks": {}}, path)
    best = run.best.read_bytes()
    assert main(["train", "--resume", str(run.path), "--trainer.max_epochs=4"]) == 0
    assert "best top-1 on the hold-out: 200.00 %" in capsys.readouterr().out
    assert run.best.read_bytes() == best


def test_a_finished_run_resumed_is_finished(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    before = (run / "model.safetensors").read_bytes(), (run / "metrics.csv").read_text()
    assert main(["train", "--resume", str(run)]) == 0
    assert ((run / "model.safetensors").read_bytes(), (run / "metrics.csv").read_text()) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.ema_decay=0.9"], "got ema_decay None instead of 0.9; resume without the change"),
        (["--model.optimise.name=sgd"], "got optimiser 'adamw' instead of 'sgd'"),
        (["--model.optimise.weight_decay=0.1"], "got weight_decay 0.05 instead of 0.1"),
        (
            ["--trainer.max_epochs=2"],
            "must be at least as long as it is, 3 epochs, got --trainer.max_epochs 2",
        ),
        (["--data.batch_size=4"], "must keep its 8 images an update, got 4; resume with the same"),
    ],
    ids=lambda x: x[0] if isinstance(x, list) else "",
)
def test_what_a_resumed_run_may_not_change(
    words: list[str], message: str, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    config = (run / "config.yaml").read_text()
    assert message in mistake([f"--resume={run}", *words], capsys)
    assert (run / "config.yaml").read_text() == config


@pytest.mark.parametrize("name", ["best", "last"])
def test_a_run_that_lost_a_checkpoint_is_not_begun_anew(
    name: str, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(Path(shutil.copytree(finished_run, tmp_path / "run")))
    getattr(run, name).unlink()
    line = mistake(["--resume", run.path], capsys)
    assert f"--resume needs the best and the last checkpoint, got no {getattr(run, name)}" in line


def test_a_start_that_failed_does_not_bar_the_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*QUICK, "--data=digits", f"--output={tmp_path / 'run'}", "--trainer.max_epochs=1"]
    words += ["--model.optimise.warmup_epochs=0", "--trainer.limit_train_batches=2"]
    assert "must be finite" in mistake([*words, "--model.optimise.lr=1e30"], capsys)
    assert main(["train", *words]) == 0


def test_a_class_that_cannot_be_read(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (photos / "train" / "lemon").iterdir():
        path.write_text("no picture")
    line = mistake([*QUICK, f"--data={photos}", f"--output={tmp_path / 'run'}"], capsys)
    assert not (tmp_path / "run").exists()
    assert f"every class must hold an image that can be read, got none next to {photos}/train/lemon/" in line


def test_a_model_of_timms_own_trains_and_is_kept(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words = [*QUICK, "--model=test_vit", f"--data={photos}", f"--output={run}", "--trainer.max_epochs=2"]
    assert main(["train", *words, "--model.options={depth: 1}"]) == 0
    assert main(["evaluate", str(run), "--data", str(photos)]) == 0
    assert "top-1" in capsys.readouterr().out
