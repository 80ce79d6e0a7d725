# SPDX-License-Identifier: Apache-2.0
"""Every mistake that a training can begin with is one line, and leaves nothing behind."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slideformer.cli.main import main
from slideformer.dense import detector, segmenter
from slideformer.tasks.table import TASKS, Task
from slideformer.tasks.training.recipes import recipe_names
from slideformer.tasks.training.run_folder import RunFolder
from tests.cli.mistakes import mistake
from tests.conftest import QUICK

# A process that holds a lock.
HOLD = (
    "import fcntl, sys; file = open(sys.argv[1], 'a+'); fcntl.lockf(file, fcntl.LOCK_EX); "
    "print('held', flush=True); sys.stdin.read()"
)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: --data;"),
        (["--data=nowhere"], "--data must be a folder, got nowhere, which does not exist; check the path"),
        (["--data=digits", "--model=slide_swin_tinny"], "slide_swin_tiny"),
        (["--data=digits", "--config=nope"], "--config must be a YAML file or one of digits, fashion_mnist"),
        (["--data=digits", "--config"], "--config must be a YAML file or one of digits"),
        (["--data=digits", "--model.optimise.rate=1"], "rate"),
        (["--data=digits", "--trainer.max_epochs=many"], "--epochs"),
        (["--data=digits", "--data.batch_size=0"], "--batch-size must be at least 1, got 0"),
        (
            ["--data=digits", "--model.optimise.lr=-1"],
            "--lr must be from 0 to 1e+30, got -1.0",
        ),
        (["--data=digits", "--model.optimise.name=adamwx"], "adamwx"),
        (["--data=digits", "--model.smoothing=2"], "--model.smoothing must be from 0 to 0.999, got 2.0"),
        (["--data=digits", "--model.smoothing=1"], "--model.smoothing must be from 0 to 0.999, got 1.0"),
        (
            ["--data=digits", "--model.optimise.lr=1e99"],
            "--lr must be from 0 to 1e+30, got 1e+99",
        ),
        (
            ["--data=digits", "--model.optimise.lr=.nan"],
            "--lr must be from 0 to 1e+30, got nan",
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
            "--image-size must be from 1 to 4096, got 100000000000000000000",
        ),
        (["--data=digits", "--data.num_workers=1000000000"], "--workers must be from 0 to 1024"),
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
        (["--data=digits", "--model.optimise.cooldown_epochs=9"], "must be more than the 9 of cool-down"),
        (["--data=digits", "--model.optimise.betas=[0.9, 1.5]"], "betas must be from 0 to 1, got 1.5"),
        (["--data=digits", "--model.optimise.name=adan"], "the optimiser adan cannot be made with betas"),
        (["--data=digits", "--model.mix.mixup=-1"], "--model.mix.mixup must be at least 0, got -1"),
        (["--data=digits", "--model.mix.prob=2"], "--model.mix.prob must be from 0 to 1, got 2"),
        (["--data=digits", "--data.augment.hflip=7"], "--data.augment.hflip must be from 0 to 1, got 7"),
        (["--data=digits", "--data.augment.scale=[1, 0.5]"], "scale must rise from above 0, at most 1, got"),
        (["--data=digits", "--data.num_classes=7"], "the classes of digits are its own"),
        (["--data=digits", "--trainer.precision=7"], "precision"),
        (
            ["--data=digits", "--model.teacher=nowhere"],
            "--model.teacher must be the folder of a finished run, or a name that timm knows, got nowhere",
        ),
        (
            ["--data=digits", "--model.teacher=resnet18"],
            "--model.teacher must have the 10 classes of the model, got resnet18 with 1000; give one",
        ),
        (["--data=digits", "--model.distil.logits=-1"], "--model.distil.logits must be at least 0, got -1"),
        (["--data=digits", "--model.freeze=0"], "--model.freeze must be at least 1, got 0"),
        (
            ["--data=digits", "--model.freeze=1"],
            "--model.freeze trains first what --weights leave new, got 1 without weights; give them",
        ),
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
    assert "learning rate 9.70e+29; try a lower --lr" in line


def test_weights_that_answer_nothing_are_not_kept(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(tmp_path / "run")
    words = [*QUICK, f"--data={photos}", f"--output={run.path}", "--trainer.limit_train_batches=1"]
    line = mistake([*words, "--model.optimise.lr=1e30", "--model.optimise.warmup_epochs=0"], capsys)
    assert "the loss on the hold-out must be finite, got nan at step 1, epoch 1, learning rate" in line
    assert not run.best.exists()
    assert not run.weights.exists()


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


@pytest.mark.parametrize(
    ("word", "near"),
    [("--epoch=3", "--epochs"), ("--model.optimise.weight_decy=0", "--model.optimise.weight_decay")],
)
def test_a_mistyped_option_gets_the_nearest(
    word: str, near: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line = mistake([*QUICK, "--data=digits", f"--output={tmp_path / 'run'}", word], capsys)
    assert f"did you mean {near}?" in line


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_help_is_a_page_with_every_short_option(task: Task, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", task.name, "--help"]) == 0
    page = capsys.readouterr().out
    assert len(page.splitlines()) <= 40
    assert max(map(len, page.splitlines())) <= 110
    shown = {line.split()[0] for line in page.splitlines() if line.startswith("  --")}
    assert shown == {*task.short, "--output", "--config", "--resume", "--help-all"}
    heads = {"classify": (), "detect": detector.HEADS, "segment": segmenter.HEADS}[task.name]
    assert all(name in page for name in (*heads, *recipe_names(task.name)))


def test_all_options_are_listed_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help-all"])
    assert "--model.optimise.weight_decay" in capsys.readouterr().out


def test_a_classifier_starts_from_its_hosts_run(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = tmp_path / "host"
    words = [*QUICK, f"--data={photos}", "--epochs=2"]
    assert main(["train", *words, f"--output={host}", "--model.options={slide_stages: []}"]) == 0
    assert main(["train", *words, f"--output={tmp_path / 'run'}", f"--weights=host:{host}"]) == 0
    assert f"host:{host}: " in capsys.readouterr().out
    line = mistake([*words, f"--output={tmp_path / 'no'}", f"--weights={tmp_path / 'nowhere'}"], capsys)
    assert "the weights must be a file that exists" in line
    assert not (tmp_path / "no").exists()


def test_a_training_says_what_it_will_be(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", *QUICK, f"--data={photos}", "--epochs=2", "--trainer.check_val_every_n_epoch=5"]
    assert main([*words, f"--output={tmp_path / 'run'}", "--model.optimise.warmup_epochs=9"]) == 0
    out = capsys.readouterr().out
    assert "24 images, 8 an update: 3 updates an epoch, 6 in all, which is few; " in out
    assert "; try --batch-size 3 or --epochs above 2\n" in out
    assert re.search(r"\na step takes at least 0\.\d GiB of memory, of \d+\.\d GiB that are free\n", out)
    assert "the warm-up was to last as long as the training: shortened to 1 of 6 updates" in out
    # The last epoch is evaluated, however seldom the others are.
    assert "best top-1 on the hold-out: " in out
    assert "(epoch 2)" in out
